"""Text for people: aligned columns, and data made safe to show."""

import logging
import re
import sys
import unicodedata
from collections.abc import Collection, Sequence
from typing import TextIO


def align_columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return one line a row, the columns two spaces apart, those in `right` flush right.

    Example:
        >>> align_columns([("a", "1"), ("bc", "10")], right=[1])
        ['a    1', 'bc  10']
    """
    columns = []
    for i, cells in enumerate(zip(*rows, strict=True)):
        width = max(map(len, cells))
        columns.append([c.rjust(width) if i in right else c.ljust(width) for c in cells])
    return ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]


def count(number: int, noun: str) -> str:
    """Return a number and its noun.

    Example:
        >>> count(1, "seed"), count(3000, "seed")
        ('1 seed', '3,000 seeds')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def make_visible(text: object) -> str:
    """Return a text of one line without control characters, which are written as escapes.

    Example:
        >>> make_visible("a\\nb\\x1b[31m")
        'a b\\\\x1b[31m'
    """
    return _escape_controls(re.sub(r"[\r\n\t\v\f\u2028\u2029\x85]+", " ", str(text)))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where there is no message.

    Example:
        >>> first_line(ValueError("a\\nb")), first_line(TypeError())
        ('a', 'TypeError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def find_bar_setting(progress: bool) -> bool | None:
    """Return tqdm's `disable`: bars are shown on a terminal and in a notebook, if asked for."""
    if not progress:
        return True
    return False if "ipykernel" in sys.modules else None


def print_text(text: object = "", *, file: TextIO | None = None, flush: bool = False) -> None:
    """Print a text of any lines; control characters but the line breaks are escapes.

    So are characters that the stream's encoding does not have.
    """
    encoding = getattr(file or sys.stdout, "encoding", None) or "utf-8"
    shown = _escape_lines(str(text)).encode(encoding, "backslashreplace").decode(encoding)
    print(shown, file=file, flush=flush)


class VisibleFormatter(logging.Formatter):
    """Formats log messages as `print_text` prints texts: lines stay, escapes replace controls."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text, its traceback too."""
        return _escape_lines(super().format(record))


def _escape_lines(text: str) -> str:
    return "\n".join(_escape_controls(line.replace("\t", " ")) for line in text.split("\n"))


def _escape_controls(line: str) -> str:
    return "".join(
        c.encode("unicode_escape").decode("ascii")
        if unicodedata.category(c).startswith("C")
        else c
        for c in line
    )
