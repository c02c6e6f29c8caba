"""Tables in HTML; whatever is in the data is text."""

from html import escape

from tlcnn.report.forest import BAR_WIDTH, Scale, list_ticks, place
from tlcnn.report.numbers import NONE, format_gap
from tlcnn.report.table import Column, Entry, Table
from tlcnn.text import make_visible

_LONG_CODE, _LONG_TEXT = 40, 24  # letters of a wide column; the same in templates/tables.js


def write_html(table: Table) -> str:
    """Return a `<table>` without bars, the best in `<b>`, and a paragraph for each note."""
    notes = [f"<p>{escape(make_visible(note))}</p>\n" for note in table.notes]
    return f"{write_table(table.drop_bars())}\n{''.join(notes)}"


def write_table(
    table: Table,
    *,
    is_interactive: bool = False,
    n_rows: int | None = None,
    metric: str = "",
) -> str:
    """Return the `<table>` of a page: heads, and rows with badges, bars and titles.

    Args:
        is_interactive: whether the page's script sorts it, so that its heads are buttons.
        n_rows: how many rows are written; None for all.
        metric: the metric of the bars' axis; empty for no axis.
    """
    caption = f'<caption class="unseen">{escape(table.title)}</caption>' if table.title else ""
    heads = [_write_head(column, table.scale, is_interactive, metric) for column in table.columns]
    opens = table.opens or ("",) * len(table.rows)
    rows = [
        f"<tr>{_write_title(row[0], target)}"
        + "".join(
            _write_entry(entry, column, table.scale, is_interactive)
            for entry, column in zip(row[1:], table.columns[1:], strict=True)
        )
        + "</tr>"
        for row, target in list(zip(table.rows, opens, strict=True))[:n_rows]
    ]
    lines = ["<thead>", f"<tr>{''.join(heads)}</tr>", "</thead>", "<tbody>", *rows, "</tbody>"]
    return "\n".join([f'<table class="data">{caption}', *lines, "</table>"])


def _write_head(column: Column, scale: Scale | None, is_interactive: bool, metric: str) -> str:
    hint = f' title="{escape(column.hint)}"' if column.hint else ""
    start = f'<th scope="col" class="{_list_classes(column)}"{hint}'
    name = escape(column.name)
    if column.kind == "bar" and scale is not None:
        axis = _write_axis(scale, metric) if metric else ""
        return f'{start} data-kind="bar">{name}{axis}</th>'
    if not is_interactive:
        return f"{start}>{name}</th>"
    button = f'<button type="button" class="sort">{name}</button>'
    return f'{start} data-kind="{column.kind}" aria-sort="none">{button}</th>'


def _list_classes(column: Column, text: str = "") -> str:
    classes = [column.kind, *(["aside"] if column.aside else [])]
    classes += ["long"] if column.kind == "code" and len(text) > _LONG_CODE else []
    classes += ["roomy"] if column.kind == "text" and len(text) > _LONG_TEXT else []
    return " ".join(classes)


def _write_title(entry: Entry, target: str) -> str:
    """Return the first entry of a row, which opens its details."""
    text = _mark_best(entry)
    below = f"<small>{escape(entry.below)}</small>" if entry.below else ""
    if target:
        text = f'<button type="button" class="opens" data-opens="{escape(target)}">{text}</button>'
    elif below:
        text = f"<span>{text}</span>"
    return f'<th scope="row">{text}{below}</th>'


def _write_entry(entry: Entry, column: Column, scale: Scale | None, is_interactive: bool) -> str:
    is_number = is_interactive and isinstance(entry.sort_key, float)
    value = f' data-v="{entry.sort_key}"' if is_number else ""
    start = f'<td class="{_list_classes(column, entry.text)}"{value}>'
    hint = f' title="{escape(entry.why)}"' if entry.why else ""
    if column.kind == "verdict" and entry.sort_key is not None:
        content = f'<span class="badge {entry.tone}">{escape(entry.text)}</span>'
    elif entry.bar is not None and scale is not None:
        content = _write_bar(entry.bar, scale)
    elif column.kind == "bar" or entry.text == NONE:
        content = f'<span class="none"{hint}>{NONE}</span>'
    else:
        content = f"<span{hint}>{_mark_best(entry)}</span>" if hint else _mark_best(entry)
    return f"{start}{content}</td>"


def _mark_best(entry: Entry) -> str:
    return f"<b>{escape(entry.text)}</b>" if entry.is_best else escape(entry.text)


def _write_bar(bar: tuple[float, float, float], scale: Scale) -> str:
    """Return a forest bar: the margin's band, zero, the interval and its point."""
    low, high, margin = scale
    first, point, last = (place(value, scale) for value in bar)
    zero = place(0, scale)
    arrows = '<path class="point" d="M0 13l6 -4v8z"/>' if bar[0] < low else ""
    if bar[2] > high:
        arrows += f'<path class="point" d="M{BAR_WIDTH} 13l-6 -4v8z"/>'
    return (
        f'<svg class="forest" viewBox="0 0 {BAR_WIDTH} 26" aria-hidden="true">'
        f'<rect class="band" x="{place(-margin, scale)}" y="3" '
        f'width="{place(low + 2 * margin, scale)}" height="20"/>'
        f'<line class="zero" x1="{zero}" x2="{zero}" y1="1" y2="25"/>'
        f'<line class="range" x1="{first}" x2="{last}" y1="13" y2="13"/>{arrows}'
        f'<circle class="point" cx="{point}" cy="13" r="4"/></svg>'
    )


def _write_axis(scale: Scale, metric: str) -> str:
    texts = []
    for tick in list_ticks(scale):
        name = format_gap(tick, metric)
        name = name.rstrip("0").rstrip(".") if "." in name and tick else "0"
        x = place(tick, scale)
        texts.append(f'<text x="{x}" y="12" text-anchor="middle">{name}</text>')
    return (
        f'<svg class="forest axis" viewBox="0 0 {BAR_WIDTH} 15" aria-hidden="true">'
        f"{''.join(texts)}</svg>"
    )
