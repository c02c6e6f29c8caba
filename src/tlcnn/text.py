"""Plain tables for the terminal."""

from collections.abc import Collection, Sequence


def align_columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return one line a row, the columns two spaces apart, those in `right` flush right.

    Example:
        >>> align_columns([("a", "1"), ("bc", "10")], right=[1])
        ['a    1', 'bc  10']
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
