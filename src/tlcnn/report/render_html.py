"""Tables as fragments of HTML; whatever is in the data is text."""

from html import escape

from tlcnn.report.render import find_numeric, format_table
from tlcnn.report.tables import Table
from tlcnn.text import make_visible

NUMBER = ' class="number"'


def render_html(table: Table) -> str:
    """Return a `<table>`, the best in `<b>`, and a paragraph for each note."""
    header, *rows = format_table(table, lambda text: f"<b>{text}</b>", escape)
    right = find_numeric(table)
    lines = ['<table class="tlcnn">', "<thead>", _join(header, "th", right), "</thead>", "<tbody>"]
    lines += [_join(row, "td", right) for row in rows]
    lines += ["</tbody>", "</table>"]
    lines += [f"<p>{escape(make_visible(note))}</p>" for note in table.notes]
    return "\n".join(lines) + "\n"


def _join(cells: list[str], tag: str, right: list[int]) -> str:
    made = [f"<{tag}{NUMBER if i in right else ''}>{cell}</{tag}>" for i, cell in enumerate(cells)]
    return f"<tr>{''.join(made)}</tr>"
