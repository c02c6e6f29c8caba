"""Tables in LaTeX, with booktabs; whatever is in the data compiles."""

import re

from tlcnn.report.render import find_numeric, format_table
from tlcnn.report.tables import Table
from tlcnn.text import make_visible

_SPECIAL = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
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
    "Δ": r"$\Delta$",
    "±": r"$\pm$",
    "→": r"$\to$",
}


def render_latex(table: Table) -> str:
    """Return a tabular, the best in bold, and the notes as comments.

    It needs `\\usepackage{booktabs,textcomp}`; with letters beyond Latin, LuaLaTeX or XeLaTeX.
    """
    header, *rows = format_table(
        table, lambda text: rf"\textbf{{{text}}}", escape_latex, _write_score
    )
    right = find_numeric(table)
    columns = "".join("r" if i in right else "l" for i in range(len(header)))
    lines = [
        r"% needs \usepackage{booktabs,textcomp}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _join(header),
        r"\midrule",
        *map(_join, rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(f"% {make_visible(note)}" for note in table.notes),
    ]
    return "\n".join(lines) + "\n"


def _join(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _write_score(text: str) -> str:
    return "-" if text == "-" else text.replace("-", "$-$").replace("±", r"$\pm$")


def escape_latex(text: str) -> str:
    """Return a text that LaTeX prints as it is.

    Example:
        >>> escape_latex("50%_&")
        '50\\\\%\\\\_\\\\&'
    """
    escaped = "".join(_SPECIAL.get(character, character) for character in text)
    return re.sub(r"--", "-{}-", escaped)  # no dash of two hyphens
