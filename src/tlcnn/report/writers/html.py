"""HTML from templates; whatever is in the data is text."""

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tlcnn.report.forest import BAR_WIDTH, Scale, list_ticks, place
from tlcnn.report.numbers import NONE, format_gap
from tlcnn.report.table import Table
from tlcnn.text import make_visible

if TYPE_CHECKING:
    import jinja2

_TABLE = """{% from "data_table.html" import data_table %}{{ data_table(table) }}
{% for note in table.notes %}<p>{{ note }}</p>
{% endfor %}"""


def write_html(table: Table) -> str:
    """Return a `<table>` without bars, the best in `<b>`, and a paragraph for each note."""
    return load_environment().from_string(_TABLE).render(table=table.drop_bars())


@cache
def load_environment() -> "jinja2.Environment":
    """Return what renders the templates: it escapes all values and refuses missing ones."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        finalize=_show,
    )
    environment.filters["code"] = show_code
    environment.globals |= {
        "bar_width": BAR_WIDTH,
        "name_ticks": _name_ticks,
        "none_sign": NONE,
        "place": place,
    }
    return environment


def load_template(name: str) -> str:
    """Return the text of a file of the templates."""
    return (files("tlcnn.report") / "templates" / name).read_text(encoding="utf-8")


def show_code(text: str) -> Markup:
    """Return a text with what stands in backticks as code.

    Example:
        >>> show_code("see `a < b`")
        Markup('see <code>a &lt; b</code>')
    """
    parts = re.split(r"`([^`]+)`", make_visible(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else _join_per_cent(part)
        for i, part in enumerate(parts)
    )


def _show(value: Any) -> Any:
    """Return a value of a template, with the control characters of a text made visible."""
    is_data = isinstance(value, str) and not isinstance(value, Markup)
    return _join_per_cent(make_visible(value)) if is_data else value


def _join_per_cent(text: str) -> str:
    """Return a text in which no line can end between a number and its per cent sign."""
    return re.sub(r"(?<=\d) %", "\u00a0%", text)


def _name_ticks(scale: Scale, metric: str) -> list[tuple[str, str]]:
    """Return where each tick of the bars' axis stands, and its name."""
    names = [(tick, format_gap(tick, metric)) for tick in list_ticks(scale)]
    return [
        (place(tick, scale), name.rstrip("0").rstrip(".") if "." in name and tick else "0")
        for tick, name in names
    ]
