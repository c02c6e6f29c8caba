"""Tables in Markdown, and texts that Markdown shows as they are."""

import re
from collections.abc import Iterable

from tlcnn.report.table import Entry, Table, name_letter
from tlcnn.text import make_visible

# What a line of text could begin: a list, a rule, the underline of a heading.
_AT_START = re.compile(r"^(\d*)([-+=.)])(?=\s|[-=]|$)")


def escape_markdown(text: object) -> str:
    """Return a text as one line without markup: no HTML, cell borders, emphasis, links, formulas.

    Addresses and mentions are parted, as GitHub links them without any markup.

    Example:
        >>> print(escape_markdown("a|b <img src=x> *c* d_e _f_"))
        a\\|b &lt;img src=x&gt; \\*c\\* d_e \\_f\\_
        >>> print(escape_markdown("- www.example.org a@example.org"))
        \\- www\\.example.org a&#64;&#8203;example.org
        >>> print(escape_markdown("1. no list"), escape_markdown("0.889"), escape_markdown("+1.5"))
        1\\. no list 0.889 +1.5
    """
    line = make_visible(text).strip()
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\|`*\[\]$~#])", r"\\\1", line)
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)
    line = re.sub(r"(www)\.", r"\1\\.", line, flags=re.IGNORECASE)
    line = line.replace("://", ":&#8203;//").replace("@", "&#64;&#8203;")
    return _AT_START.sub(r"\1\\\2", line)


def show_code(text: str) -> str:
    """Return a text without markup, but what stands in backticks as code.

    Example:
        >>> print(show_code("run `a=[] b=*` or *c*"))
        run `a=[] b=*` or \\*c\\*
    """
    parts = re.split(r"`([^`]+)`", make_visible(text).strip())
    for i, part in enumerate(parts):
        start = "," if i else ""  # only the first part begins the line; spaces at ends stay
        parts[i] = f"`{part}`" if i % 2 else escape_markdown(f"{start}{part},")[len(start) : -1]
    return "".join(parts)


def write_markdown(table: Table) -> str:
    """Return a table in Markdown without its bars, the best in bold; then its notes."""
    table = table.drop_bars()
    lines = [
        _join(escape_markdown(column.name) for column in table.columns),
        _join("---:" if column.is_right else "---" for column in table.columns),
        *(_join(map(_write_entry, row)) for row in table.rows),
    ]
    families = enumerate(map(escape_markdown, table.families), 1)
    footnotes = enumerate(map(escape_markdown, table.footnotes), 1)
    lists = [
        "\n".join(f"- {name_letter(n)}: {family}" for n, family in families),
        "\n".join(f"{n}. {note}" for n, note in footnotes),
    ]
    below = [table.describe_everywhere(), *table.notes]
    parts = ["\n".join(lines), *lists, *map(escape_markdown, below)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _write_entry(entry: Entry) -> str:
    text = escape_markdown(entry.text)
    if isinstance(entry.sort_key, float):  # a number's own brackets make no link
        text = text.replace("\\[", "[").replace("\\]", "]")
    return f"**{text}**" if entry.is_best else text


def _join(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"
