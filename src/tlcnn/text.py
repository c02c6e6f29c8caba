"""Text for people: aligned columns, and data made safe to show."""

import re
import unicodedata
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


def make_visible(text: object) -> str:
    """Return a text of one line without control characters, which are written as escapes.

    Example:
        >>> make_visible("a\\nb\\x1b[31m")
        'a b\\\\x1b[31m'
    """
    line = re.sub(r"[\r\n\t\v\f\u2028\u2029\x85]+", " ", str(text))
    return "".join(c if not unicodedata.category(c).startswith("C") else _escape(c) for c in line)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
