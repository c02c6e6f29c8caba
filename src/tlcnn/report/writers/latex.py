"""Tables and numbers in LaTeX. Whatever the data says, it compiles with any engine."""

import re
import sys
import textwrap
from collections.abc import Mapping, Sequence

from tlcnn.report.numbers import NONE
from tlcnn.report.table import Entry, Table, name_letter
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
    "τ": r"$\tau$",
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
# The preamble of a document with floats: a column of texts that are broken into lines.
COLUMNS = r"""\usepackage{array}
\usepackage{tabularx}
\newcolumntype{L}{>{\raggedright\arraybackslash}X}"""
MAX_LINES = 70  # of a table with its caption and notes on a page
PAGE_LETTERS = 116  # of a line that is as wide as the page
MAX_LETTERS = 22  # of a text in one line
HEAD_LETTERS = 14  # of a column's name in one line


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
    kinds = ["r" if column.is_right else "l" for column in table.columns]
    head, *rows = _list_lines(table, kinds, sys.maxsize)
    notes = [f"% {make_visible(note)}" for note in table.notes]
    first = r"% needs \usepackage{booktabs,textcomp}"
    tabular = _write_tabular("tabular", f"{{{''.join(kinds)}}}", head, rows)
    return "\n".join([first, tabular, *notes, ""])


def write_float(table: Table, *, caption: str, label: str) -> str:
    """Return a `table` float of a page's width, or several where a page takes fewer rows.

    Columns that are empty in every row are left out. Long texts are broken into lines, and an
    interval stands below its value. It needs COLUMNS in the preamble, and booktabs.
    """
    table = table.drop_bars()
    entries = enumerate(zip(*table.rows, strict=True))
    table = table.select([i for i, c in entries if any(e.text not in ("", NONE) for e in c)])
    notes = [f"({name_letter(n)}) {text}." for n, text in enumerate(table.families, start=1)]
    notes += [f"({n}) {note}." for n, note in enumerate(table.footnotes, start=1)]
    notes = [escape_latex(note).replace("..", ".") for note in [*notes, *table.notes]]
    below = f"\n\n\\smallskip\n{{\\raggedright {' '.join(notes)}\\par}}" if notes else ""
    texts = zip(*([_list_parts(entry)[0] for entry in row] for row in table.rows), strict=True)
    kinds = [
        "r" if column.is_right else "L" if max(map(len, lines)) > MAX_LETTERS else "l"
        for column, lines in zip(table.columns, texts, strict=True)
    ]
    head, *rows = _list_lines(table, kinds, HEAD_LETTERS)
    name, width = ("tabularx", r"{\linewidth}") if "L" in kinds else ("tabular", "")
    # What a caption has to say of a table that goes on is said once.
    title = f"\\caption{{{escape_latex(caption)}}}\\label{{{label}}}"
    further = "\\addtocounter{table}{-1}\n\\caption{(continued"
    further += "; the notes stand below the first part)}" if notes else ")}"
    is_tall = any(len(_list_parts(entry)) > 1 for row in table.rows for entry in row)
    gap = "\\addlinespace[2pt]\n" if is_tall else ""
    room = MAX_LINES - 4.0
    pages: list[list[str]] = [[]]
    n_left = room - 1.3 * len(caption) / PAGE_LETTERS - sum(map(len, notes)) / PAGE_LETTERS
    for row, n_lines in zip(rows, _count_lines(table, kinds), strict=True):
        if n_left < n_lines and pages[-1]:
            pages, n_left = [*pages, []], room
        pages[-1].append(row)
        n_left -= n_lines + 0.3 * is_tall
    options = f"{width}{{{' '.join(kinds)}}}"
    floats = [
        "\\begin{table}[htbp]\n\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}\n"
        f"{further if number else title}\n"
        f"{_write_tabular(name, options, head, part, gap)}"
        f"{'' if number else below}\n\\end{{table}}\n"
        for number, part in enumerate(pages)
    ]
    return "\n".join(floats)


def _count_lines(table: Table, kinds: Sequence[str]) -> list[int]:
    """Return about how many lines each row takes, where long texts share what others leave."""
    columns = list(
        zip(*([_list_parts(entry) for entry in row] for row in table.rows), strict=True)
    )
    widths = [
        max(min(len(column.name), HEAD_LETTERS), *(len(line) for lines in parts for line in lines))
        for column, parts, kind in zip(table.columns, columns, kinds, strict=True)
        if kind != "L"
    ]
    left = PAGE_LETTERS - sum(widths) - 2 * len(kinds)
    width = max(left // max(kinds.count("L"), 1), 10)
    heights = [
        [
            sum(len(textwrap.wrap(t, width if kind == "L" else 999)) for t in lines)
            for lines in parts
        ]
        for parts, kind in zip(columns, kinds, strict=True)
    ]
    return [max(1, *row) for row in zip(*heights, strict=True)]


def _write_tabular(name: str, options: str, head: str, rows: Sequence[str], gap: str = "") -> str:
    body = "\n".join([r"\toprule", head, r"\midrule", f"\n{gap}".join(rows), r"\bottomrule"])
    return f"\\begin{{{name}}}{options}\n{body}\n\\end{{{name}}}"


def _list_lines(table: Table, kinds: Sequence[str], most: int) -> list[str]:
    """Return a line for the head and for each row, of columns of some kinds.

    Args:
        most: letters of a column's name in one line.
    """
    columns, heads = [], []
    for i, (column, kind) in enumerate(zip(table.columns, kinds, strict=True)):
        entries = [row[i] for row in table.rows]
        ends = [_DECIMALS.search(_list_parts(entry)[0]) for entry in entries]
        longest = max((end[0] for end in ends if end and kind == "r"), key=len, default="")
        columns.append([_write_entry(entry, kind, longest) for entry in entries])
        name_lines = textwrap.wrap(column.name, most, break_long_words=False)
        heads.append(_stack([escape_latex(line) for line in name_lines], kind, "b"))
    return [" & ".join(row) + r" \\" for row in [heads, *zip(*columns, strict=True)]]


def _list_parts(entry: Entry) -> list[str]:
    """Return the lines of an entry: its text, or its value and its interval; what stands below."""
    return [*(entry.lines or (entry.text,)), *([entry.below] if entry.below else [])]


_DECIMALS = re.compile(r"(?<=\d)\.\d+$")


def _write_entry(entry: Entry, kind: str, decimals: str) -> str:
    """Return an entry; `decimals` are the most of its column, whose room it takes."""
    first, *small = _list_parts(entry)
    text = escape_latex(first)
    if isinstance(entry.sort_key, float):  # a number's own brackets do not begin its row
        text = text.replace("{[}", "[").replace("{]}", "]")
        text += "" if _DECIMALS.search(first) or not decimals else rf"\phantom{{{decimals}}}"
    text = rf"\textbf{{{text}}}" if entry.is_best else text
    return _stack([text, *(rf"{{\scriptsize {escape_latex(line)}}}" for line in small)], kind)


def _stack(lines: Sequence[str], kind: str, place: str = "t") -> str:
    """Return lines one below the other; the line at `place` (t, b) is level with the row."""
    if kind == "L" or len(lines) < 2:
        return r" \newline ".join(lines)
    body = r" \\ ".join(lines)
    return rf"\begin{{tabular}}[{place}]{{@{{}}{kind}@{{}}}}{body}\end{{tabular}}"


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
