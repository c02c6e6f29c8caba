"""Texts and tables in LaTeX: whatever the data says, it compiles, with any engine."""

import re
from collections.abc import Mapping, Sequence

from tlcnn.report.page_cells import Table
from tlcnn.report.render_latex import escape_latex
from tlcnn.text import make_visible

_MEANT = {
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


def escape_line(text: object) -> str:
    r"""Return a text as one line that LaTeX sets as it is.

    Letters that the standard fonts lack are written as their code point, so that every engine
    compiles them.

    Example:
        >>> print(escape_line("50% of a_b & \\input{x}"))
        50\% of a\_b \& \textbackslash{}input\{x\}
        >>> print(escape_line("−1.0 肺"))
        $-$1.0 \texttt{U+80BA}
    """
    return "".join(map(_escape_letter, escape_latex(make_visible(text))))


def _escape_letter(letter: str) -> str:
    if letter.isascii() or "\u00c0" <= letter <= "\u017f":  # accents that T1 fonts have
        return letter
    return _MEANT.get(letter, rf"\texttt{{U+{ord(letter):04X}}}")


def render_float(table: Table, *, caption: str, label: str, n_max: int = 45) -> str:
    """Return a `table` float, or a `longtable` of more rows than a page takes.

    Needs the packages booktabs, and longtable for the long ones.
    """
    heads, rows, right = table.flatten()
    heads, rows, right = _drop_empty(heads, rows, right)
    spec = "".join("r" if at in right else "l" for at in range(len(heads)))
    head = f"{_join_cells(heads)}\n\\midrule"
    body = "\n".join(_join_cells(row) for row in rows)
    told = escape_line(", ".join(f"{name} {text}" for name, text in table.everywhere))
    notes = "".join(f" ({n}) {escape_line(t)}." for n, t in enumerate(table.notes, start=1))
    caption = escape_line(caption) + notes.replace("..", ".")
    caption += f" The same in every row: {told}." if told else ""
    if len(rows) > n_max:
        return (
            f"{{\\tiny\\setlength{{\\tabcolsep}}{{3pt}}\n\\begin{{longtable}}{{{spec}}}\n"
            f"\\caption{{{caption}}}\\label{{{label}}}\\\\\n\\toprule\n{head}\n\\endfirsthead\n"
            f"\\toprule\n{head}\n\\endhead\n\\bottomrule\n\\endfoot\n{body}\n"
            "\\end{longtable}}\n"
        )
    return (
        f"\\begin{{table}}[htbp]\n\\centering\n\\caption{{{caption}}}\\label{{{label}}}\n"
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        f"\\begin{{tabular}}{{{spec}}}\n\\toprule\n{head}\n{body}\n\\bottomrule\n"
        "\\end{tabular}}\n\\end{table}\n"
    )


def _drop_empty(
    heads: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]
) -> tuple[list[str], list[list[str]], set[int]]:
    """Leave out columns that say nothing in any row."""
    kept = [at for at in range(len(heads)) if any(row[at] not in ("", "–") for row in rows)]
    moved = {new for new, old in enumerate(kept) if old in right}
    return [heads[at] for at in kept], [[row[at] for at in kept] for row in rows], moved


def _join_cells(cells: Sequence[str]) -> str:
    return f"{' & '.join(map(escape_line, cells))} \\\\"


def render_macros(numbers: Mapping[str, str]) -> str:
    r"""Return one \newcommand a number; names are made of letters alone.

    Example:
        >>> print(render_macros({"best cell 2": "66.3"}), end="")
        \newcommand{\tlcnnBestCellTwo}{66.3}
    """
    lines, seen = [], set()
    for name, value in numbers.items():
        macro = name_macro(name)
        while macro in seen:
            macro += "X"
        seen.add(macro)
        lines.append(f"\\newcommand{{\\{macro}}}{{{escape_line(value)}}}")
    return "\n".join(lines) + "\n"


_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def name_macro(name: str) -> str:
    """Return the name of a macro, without its backslash: every digit is spelled out.

    Example:
        >>> name_macro("isic2019 imagenet 2")
        'tlcnnIsicTwoZeroOneNineImagenetTwo'
    """
    spelled = re.sub(r"[0-9]", lambda found: f" {_DIGITS[int(found[0])]} ", name)
    words = re.findall(r"[A-Za-z]+", spelled)
    return "tlcnn" + "".join(word[0].upper() + word[1:] for word in words)
