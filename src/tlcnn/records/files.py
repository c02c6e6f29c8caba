"""Reading the files of a run folder, which may be damaged or made by somebody else.

Every file is a regular file of bounded size; what a run has finished is compared with the sha256
that the run recorded in DONE.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import yaml

from tlcnn.errors import DataError
from tlcnn.storage import digest_of_file, read_regular_file

DONE = "DONE"
PREDICTIONS, SPLITS, SEEN = "predictions.parquet", "splits.parquet", "seen.parquet"
RESULTS = ("summary.json", PREDICTIONS, "weights.safetensors")  # recorded in DONE
MAX_TEXT_BYTES = 2**26  # ten thousand epochs are 20 MB of metrics.jsonl


def read_text(path: Path) -> str:
    """Return the text of a log in a run folder; bytes that are no UTF-8 are replaced.

    Raises:
        DataError: the file is missing, a link, a pipe, or larger than 64 MiB.
    """
    return _read_bytes(path, MAX_TEXT_BYTES).decode("utf-8", errors="replace")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file of a run folder.

    A file that DONE lists is compared with the sha256 there.

    Raises:
        DataError: see `read_text`; or the text is no JSON, nested too deeply, or not what the run
            wrote.
    """
    return _parse_json(path, _decode(path, read_result(path, max_bytes=MAX_TEXT_BYTES)))


def read_json_lines(path: Path) -> tuple[list[Any], bool]:
    """Return the values of a file with one JSON value a line, and whether the last line is cut.

    Half a line at the end, which a killed copy leaves, is left out.

    Raises:
        DataError: see `read_json`.
    """
    lines = _decode(path, _read_bytes(path, MAX_TEXT_BYTES)).splitlines(keepends=True)
    values = []
    for line in lines:
        try:
            values.append(_parse_json(path, line))
        except DataError:
            if line is not lines[-1] or line.endswith("\n"):
                raise
            return values, True
    return values, False


def read_yaml(path: Path) -> Any:
    """Return the value in a YAML file of a run folder. Raises DataError like `read_json`."""
    text = _decode(path, _read_bytes(path, MAX_TEXT_BYTES))
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506  # both loaders are safe
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is cut or damaged: {_first_line(error)}") from error


def read_result(path: Path, *, max_bytes: int | None = None) -> bytes:
    """Return the bytes of a run's file; those of a result only if they are what the run wrote.

    Raises:
        DataError: see `read_text`; or DONE is damaged or has another sha256.
    """
    content = _read_bytes(path, max_bytes)
    if path.name in RESULTS:
        expected = read_digests(path.parent).get(path.name)
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise DataError(
                f"{path} is not what the run wrote: its sha256 is not the one in {DONE}. Restore "
                "it from a copy, or delete the run's folder and train the run again."
            )
    return content


def compute_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each result in a run folder, by file name."""
    paths = [folder / name for name in RESULTS]
    return {path.name: digest_of_file(path) for path in paths if path.is_file()}


def read_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each result as DONE records it; empty for a run without DONE.

    Raises:
        DataError: DONE cannot be read or records no sha256, so the results cannot be checked.
    """
    path = folder / DONE
    if not os.path.lexists(path):
        return {}
    try:
        digests = _parse_json(path, _decode(path, _read_bytes(path, MAX_TEXT_BYTES)))["sha256"]
        return {str(name): str(digest) for name, digest in digests.items()}
    except (DataError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged: it does not record the sha256 of the run's files. Restore it "
            "from a copy, or delete the run's folder and train the run again."
        ) from error


def _read_bytes(path: Path, max_bytes: int | None) -> bytes:
    try:
        return read_regular_file(path, max_bytes=max_bytes)
    except FileNotFoundError as error:
        raise DataError(f"there is no {path.name} in {path.parent}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except ValueError as error:
        raise DataError(f"{path} is cut or damaged: {error}") from error


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is cut or damaged: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
