"""Tables and numbers in LaTeX. Whatever the data says, it compiles with any engine."""

import re
from collections.abc import Iterable, Mapping

from tlcnn.report.numbers import NONE
from tlcnn.report.table import Entry, Table
from tlcnn.text import make_visible

_SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "[": "{[}",  # after \\ it would begin an option
    "]": "{]}",
    "*": "{*}",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\to$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "Δ": r"$\Delta$",
    "δ": r"$\delta$",
    "γ": r"$\gamma$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "μ": r"$\mu$",
    "µ": r"$\mu$",
    "★": r"$\star$",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "…": r"\ldots{}",
    "\u00a0": "~",
    "·": r"$\cdot$",
    "❄": r"$\ast$",
}
MAX_FLOAT_ROWS = 45  # more do not fit on a page


def escape_latex(text: object) -> str:
    r"""Return a text as one line that LaTeX prints as it is.

    Letters that the standard fonts lack are written as their code point, so that every engine
    compiles them.

    Example:
        >>> print(escape_latex("50% of a_b & \\input{x}"))
        50\% of a\_b \& \textbackslash{}input\{x\}
        >>> print(escape_latex("−1.0 肺"))
        $-$1.0 \texttt{U+80BA}
    """
    line = make_visible(text)
    signs = {
        ord(letter): _SIGNS.get(letter, rf"\texttt{{U+{ord(letter):04X}}}")
        for letter in set(line)
        if letter in _SIGNS or not (letter.isascii() or "\u00c0" <= letter <= "\u017f")
    }
    escaped = line.replace("--", "-\0-").replace("--", "-\0-").translate(signs)
    return escaped.replace("\0", "{}")  # two hyphens would make a dash


def write_latex(table: Table) -> str:
    """Return a tabular, the best in bold, and the notes as comments.

    It needs `\\usepackage{booktabs,textcomp}`.
    """
    table = table.drop_bars()
    notes = [f"% {make_visible(note)}" for note in table.notes]
    return "\n".join(
        [r"% needs \usepackage{booktabs,textcomp}", _write_tabular(table), *notes, ""]
    )


def _write_tabular(table: Table) -> str:
    head, *rows = _list_lines(table)
    lines = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    body = "\n".join(lines)
    return f"\\begin{{tabular}}{{{_align(table)}}}\n{body}\n\\end{{tabular}}"


def _align(table: Table) -> str:
    return "".join("r" if column.is_right else "l" for column in table.columns)


def _list_lines(table: Table) -> list[str]:
    """Return a line for the head and for each row."""
    rows = [[_write_entry(entry) for entry in row] for row in table.rows]
    heads = [escape_latex(column.name) for column in table.columns]
    return [" & ".join(row) + r" \\" for row in [heads, *rows]]


def _write_entry(entry: Entry) -> str:
    text = escape_latex(entry.text)
    if isinstance(entry.sort_key, float):  # a number's own brackets do not begin its row
        text = text.replace("{[}", "[").replace("{]}", "]")
    return rf"\textbf{{{text}}}" if entry.is_best else text


def write_float(table: Table, *, caption: str, label: str) -> str:
    """Return a `table` float, or a `longtable` of more rows than a page takes.

    Columns that are empty in every row are left out. It needs the packages booktabs, graphicx and
    longtable.
    """
    table = table.drop_bars()
    columns = enumerate(zip(*table.rows, strict=True))
    table = table.select([i for i, c in columns if any(e.text not in ("", NONE) for e in c)])
    texts = [caption, *(f"({n}) {note}." for n, note in enumerate(table.footnotes, start=1))]
    texts.append(table.describe_everywhere())
    caption = " ".join(escape_latex(text) for text in texts if text).replace("..", ".")
    title = f"\\caption{{{caption}}}\\label{{{label}}}"
    if len(table.rows) <= MAX_FLOAT_ROWS:
        return (
            f"\\begin{{table}}[htbp]\n\\centering\n{title}\n"
            "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
            f"{_write_tabular(table)}}}\n\\end{{table}}\n"
        )
    head, *rows = _list_lines(table)
    body = "\n".join(rows)
    return (
        f"{{\\tiny\\setlength{{\\tabcolsep}}{{3pt}}\n\\begin{{longtable}}{{{_align(table)}}}\n"
        f"{title}\\\\\n\\toprule\n{head}\n\\midrule\n\\endfirsthead\n"
        f"\\toprule\n{head}\n\\midrule\n\\endhead\n\\bottomrule\n\\endfoot\n{body}\n"
        "\\end{longtable}}\n"
    )


def write_list(lines: Iterable[str]) -> str:
    """Return an `itemize`; empty without lines."""
    items = "\n".join(f"\\item {escape_latex(line)}" for line in lines)
    return f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}" if items else ""


# ---- macros -------------------------------------------------------------------------------------


def write_macros(numbers: Mapping[str, str]) -> str:
    r"""Return one \newcommand a number; names are made of letters alone.

    Example:
        >>> print(write_macros({"best cell 2": "66.3"}), end="")
        \newcommand{\tlcnnBestCellTwo}{66.3}
    """
    lines: dict[str, str] = {}
    for name, value in numbers.items():
        macro = name_macro(name)
        while macro in lines:
            macro += "X"
        lines[macro] = f"\\newcommand{{\\{macro}}}{{{escape_latex(value)}}}"
    return "\n".join(lines.values()) + "\n"


_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def name_macro(name: str) -> str:
    """Return the name of a macro, without its backslash: every digit is spelled out.

    Example:
        >>> name_macro("isic2019 imagenet 2")
        'tlcnnIsicTwoZeroOneNineImagenetTwo'
    """
    spelled = re.sub(r"[0-9]", lambda digit: f" {_DIGITS[int(digit[0])]} ", name)
    words = re.findall(r"[A-Za-z]+", spelled)
    return "tlcnn" + "".join(word[0].upper() + word[1:] for word in words)
