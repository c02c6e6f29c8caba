"""From a JSON object to a frozen dataclass, with the type of every field checked."""

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from tlcnn.errors import DataError

T = TypeVar("T")

_LARGEST = 2**63  # tables hold whole numbers of 64 bits
_EXPECTED: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    Mapping: "an object",
}


def parse_record(kind: type[T], value: Any, where: str) -> T:
    """Return a JSON object as a dataclass; keys that the dataclass does not have are ignored.

    Fields may be of type str, int, float, bool, Mapping, another such dataclass, a tuple of one
    type, or any of them or None.

    Args:
        kind: the dataclass.
        value: the JSON value.
        where: the file's name, for messages.

    Raises:
        DataError: the value is no object, a field without a default is missing, or a value has
            another type, is not finite or does not fit into 64 bits.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Point:
        ...     x: float
        ...     names: tuple[str, ...] = ()
        >>> parse_record(Point, {"x": 1, "names": ["a"]}, "point.json")
        Point(x=1, names=('a',))
    """
    if not isinstance(value, dict):
        raise DataError(f"{where} holds a {type(value).__name__}; an object is expected")
    values = {}
    for name, hint, is_needed in _list_fields(kind):  # type: ignore[arg-type]
        if name in value:
            values[name] = _parse_value(hint, value[name], name, where)
        elif is_needed:
            raise DataError(f"{where} has no {name}")
    return kind(**values)


@cache  # a table of 5,000 runs asks a million times
def _list_fields(kind: type) -> list[tuple[str, Any, bool]]:
    """Return name, type and whether there is no default, of each field."""
    hints = get_type_hints(kind)
    return [
        (item.name, hints[item.name], item.default is item.default_factory is MISSING)
        for item in fields(kind)  # type: ignore[arg-type]
    ]


@cache
def _take_apart(hint: Any) -> tuple[Any, tuple[Any, ...], bool, bool]:
    """Return kind and arguments of a type, whether it may be None, and whether it is a record."""
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, types.UnionType):
        kind, arguments, _, is_record = _take_apart(arguments[0])
        return kind, arguments, True, is_record
    return kind, arguments, kind is Any, is_dataclass(kind)


def _parse_value(hint: Any, value: Any, name: str, where: str) -> Any:
    kind, arguments, is_optional, is_record = _take_apart(hint)
    if kind is Any or (value is None and is_optional):
        return value
    if is_record:
        return parse_record(kind, value, f"{where}, {name},")
    if kind is tuple and isinstance(value, list):
        return tuple(_parse_value(arguments[0], item, name, where) for item in value)
    if kind is Mapping and isinstance(value, dict):
        if arguments[1] is Any:
            return value
        return {key: _parse_value(arguments[1], item, key, where) for key, item in value.items()}
    if isinstance(value, bool) or kind in (bool, str):
        is_valid = type(value) is kind
    elif isinstance(value, int):
        is_valid = kind in (int, float) and abs(value) < _LARGEST
    else:
        is_valid = kind is float and isinstance(value, float) and math.isfinite(value)
    if not is_valid:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        raise DataError(f"{where} has {name}={shown}; {_EXPECTED[kind]} is expected")
    return value
