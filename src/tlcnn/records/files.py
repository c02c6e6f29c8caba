"""Reading the files of a run folder, which may be damaged or made by somebody else.

Every file is a regular file of bounded size. What a finished run has recorded is compared with the
sha256 in DONE.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import yaml

from tlcnn.errors import DataError
from tlcnn.model.weights import RUN_WEIGHTS
from tlcnn.storage import digest_of_file, read_regular_file

DONE = "DONE"
PLAN, CONFIG, ENVIRONMENT = "plan.json", "config.yaml", "environment.json"
INIT, HISTORY, SUMMARY = "init.json", "metrics.jsonl", "summary.json"
PREDICTIONS, SPLITS, SEEN = "predictions.parquet", "splits.parquet", "seen.parquet"
RECORDED = (  # DONE holds the sha256 of these files, and none of them changes after it
    *(PLAN, CONFIG, ENVIRONMENT, INIT, HISTORY, SUMMARY),
    *(PREDICTIONS, SPLITS, SEEN, RUN_WEIGHTS),
)
MAX_TEXT_BYTES = 2**26  # ten thousand epochs are 20 MB of metrics.jsonl
_RESTORE = "Restore it from a copy, or delete the run's folder and train the run again."


def read_bytes(path: Path, *, max_bytes: int | None = None) -> bytes:
    """Return the bytes of a file in a run folder, if they are what a finished run wrote.

    Raises:
        DataError: the file is missing, a link, a pipe, larger than `max_bytes`, or not what the
            run wrote; or DONE is damaged.
    """
    try:
        content = read_regular_file(path, max_bytes=max_bytes)
    except FileNotFoundError as error:
        raise DataError(f"there is no {path.name} in {path.parent}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if path.name in RECORDED:
        expected = read_digests(path.parent).get(path.name)
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise DataError(
                f"{path} is not what the run wrote: its sha256 is not the one in {DONE}. "
                + _RESTORE
            )
    return content


def read_text(path: Path) -> str:
    """Return the text of a log in a run folder; bytes that are no UTF-8 are replaced.

    Raises:
        DataError: the file is missing, a link, a pipe, or larger than 64 MiB.
    """
    return read_bytes(path, max_bytes=MAX_TEXT_BYTES).decode("utf-8", errors="replace")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file of a run folder.

    Raises:
        DataError: see `read_bytes`; or the text is no JSON, or nested too deeply.
    """
    return _parse_json(path, _read_utf8(path))


def read_json_lines(path: Path) -> tuple[list[Any], bool]:
    """Return the values of a file with one JSON value a line, and whether the last line is cut.

    Half a line at the end, which a killed copy leaves, is left out. Raises DataError as
    `read_json` does.
    """
    lines = _read_utf8(path).splitlines(keepends=True)
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
    """Return the value in a YAML file of a run folder. Raises DataError as `read_json` does."""
    text = _read_utf8(path)
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506  # both loaders are safe
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _make_damage(path, error) from error


def compute_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of `RECORDED` that a run folder has."""
    return {n: digest_of_file(folder / n) for n in RECORDED if (folder / n).is_file()}


def read_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file as DONE records it; empty for a run without DONE.

    Raises:
        DataError: DONE cannot be read or records no sha256, so the files cannot be checked.
    """
    path = folder / DONE
    if not os.path.lexists(path):
        return {}
    try:
        digests = read_json(path)["sha256"]
        return {str(name): str(digest) for name, digest in digests.items()}
    except (DataError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged: it does not record the sha256 of the run's files. {_RESTORE}"
        ) from error


def _read_utf8(path: Path) -> str:
    try:
        return read_bytes(path, max_bytes=MAX_TEXT_BYTES).decode("utf-8")
    except ValueError as error:
        raise _make_damage(path, error) from error


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _make_damage(path, error) from error


def _make_damage(path: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} is cut or damaged: {reason}")
