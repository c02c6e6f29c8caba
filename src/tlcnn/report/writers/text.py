"""Tables for the terminal: text left, numbers right, no box."""

from tlcnn.report.table import Table, move_constants
from tlcnn.text import align_columns, make_visible


def write_text(table: Table, width: int | None = None) -> str:
    """Return a table for the terminal, then its notes.

    Args:
        width: columns of the terminal. In a wider table, what is the same in every row is said
            once, above.
    """
    notes = [make_visible(note) for note in table.notes]
    if not table.rows:
        return "\n".join(["no finished runs", *notes])
    lines = _align(table)
    if width is not None and max(map(len, lines)) > width and len(table.rows) > 1:
        narrow = move_constants(table)
        head = [narrow.describe_everywhere()] if narrow.everywhere else []
        lines = [*head, *_align(narrow)]
    if any(entry.is_best for row in table.rows for entry in row):
        notes.insert(0, f"*: {table.best}")
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _align(table: Table) -> list[str]:
    """Return one line a row; a space stands for the star of others, so that digits align."""
    table = table.drop_bars()
    has_star = [any(entry.is_best for entry in column) for column in zip(*table.rows, strict=True)]
    heads = [
        f"{column.name} " if star else column.name
        for column, star in zip(table.columns, has_star, strict=True)
    ]
    rows = [
        [
            entry.text + ("*" if entry.is_best else " " if star else "")
            for entry, star in zip(row, has_star, strict=True)
        ]
        for row in table.rows
    ]
    right = [i for i, column in enumerate(table.columns) if column.is_right]
    return align_columns([heads, *rows], right)
