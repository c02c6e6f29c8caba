"""Frames as CSV, in full precision."""

import pandas as pd

from tlcnn.text import make_visible

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_csv(frame: pd.DataFrame) -> str:
    """Return a frame as CSV; no text in it can start a formula of a spreadsheet."""
    safe = frame.copy()
    for column in safe.columns[[not pd.api.types.is_numeric_dtype(t) for t in safe.dtypes]]:
        safe[column] = [escape_csv(value) for value in safe[column]]
    safe.columns = pd.Index([escape_csv(column) for column in safe.columns])
    return safe.to_csv(index=False)


def escape_csv(value: object) -> object:
    """Return a text with an apostrophe before what would start a formula; others as they are.

    Example:
        >>> escape_csv("=cmd()"), escape_csv("layer1"), escape_csv(-1.5)
        ("'=cmd()", 'layer1', -1.5)
    """
    if not isinstance(value, str):
        return value
    text = make_visible(value)
    return f"'{text}" if value.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text
