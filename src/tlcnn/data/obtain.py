"""Obtain the files of a dataset: what is there is checked, what is missing is fetched.

Every file has an entry in SOURCES.json beside it: where it came from, its digests, and what they
were compared with. Where nobody publishes a checksum, the first digest is recorded and binds all
later copies (trust on first use).
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tlcnn.data.checksum import Checksum, compute_digests, find_problem
from tlcnn.data.download import fetch_file
from tlcnn.data.files import IMAGE_SUFFIXES, is_hidden, open_file
from tlcnn.data.sources import RemoteFile, Route, Source, make_addresses
from tlcnn.errors import DataError, StorageError, list_names
from tlcnn.storage import hold_lock, make_dir, write_atomic

RECORD = "SOURCES.json"
DATA_SUFFIXES = (*IMAGE_SUFFIXES, ".csv", ".tab", ".tsv", ".zip", ".part")
FIRST_USE = "first use: no checksum is published, so this digest was recorded, not verified"

Say = Callable[[str], None]


def obtain(
    source: Source,
    route: Route,
    root: Path,
    *,
    mirrors: Sequence[str] = (),
    replacement: str = "",
    say: Say,
) -> None:
    """Put every file of a route under `root`, verified.

    Args:
        mirrors: beginnings of addresses to try before the source's own.
        replacement: the beginning that replaces the source's scheme and host.
        say: a function that is called with what happens.

    Raises:
        ConfigError: a mirror is no address.
        DataError: a file is there but wrong, or cannot be fetched, or another layout is there.
        StorageError: a full disk, or a folder that cannot be written.
    """
    make_addresses(route.page, mirrors, replacement)  # refuses what is no address
    other_data = [] if source.is_shared else _list_other_data(route, root)
    if other_data:
        raise DataError(
            f"{root} holds something else already ({list_names(other_data)}). If it is "
            f"{source.name} in another layout, nothing needs to be downloaded; if not, move it "
            "away or give another folder with --root: what lies in one folder is read together"
        )
    make_dir(root)
    other_routes = [candidate.name for candidate in source.routes if candidate is not route]
    hint = f"; or try --route {' or '.join(other_routes)} with another --root"
    for file in route.files:
        urls = make_addresses(file.url, mirrors, replacement)
        advice = (
            f"By hand: open {file.url} (found on {route.page}) in a browser, put the file at "
            f"{root / file.name} and run the same command again, which checks it"
            f"{hint if other_routes else ''}"
        )
        _obtain_file(file, urls, root, advice, say)


def _list_other_data(route: Route, root: Path) -> list[str]:
    """List what a reader would read and the route does not bring."""
    route_names = {file.name for file in route.files}
    try:
        paths = list(root.iterdir()) if root.is_dir() else []
    except OSError as error:
        raise StorageError(f"cannot read the folder {root}: {error.strerror}") from error
    return sorted(
        path.name
        for path in paths
        if (path.suffix.lower() in DATA_SUFFIXES or path.is_dir())
        and not is_hidden(path.name)
        and path.name.removesuffix(".part") not in route_names
    )


def _obtain_file(file: RemoteFile, urls: Sequence[str], root: Path, advice: str, say: Say) -> None:
    path = root / file.name
    if path.exists() and _find_checksum(file, path):  # no lock: the folder may be read-only
        return _check_present(file, path, say)
    with hold_lock(
        root / ".download.lock",
        on_wait=lambda: say(f"waiting for another download into {root}"),
        check_stop=lambda: None,
    ):
        if path.exists():
            return _check_present(file, path, say)
        checksum = _find_checksum(file, path)
        url = fetch_file(path, urls, checksum, advice=advice, say=say)
        record = _record(file, path, url)
        say(f"{path.name}: fetched; {checksum.describe() if checksum else record}")


def _find_checksum(file: RemoteFile, path: Path) -> Checksum | None:
    """Return the published checksum, else the one that was recorded on first use, else None."""
    recorded = load_entries(path.parent).get(path.name)
    if file.checksum or not recorded:
        return file.checksum
    return Checksum(
        "sha256",
        recorded["sha256"],
        f"as recorded at first use on {recorded['date']}",
        f"if the published file has changed and you trust it, take {path.name} out of "
        f"{path.parent / RECORD}",
    )


def _check_present(file: RemoteFile, path: Path, say: Say) -> None:
    checksum = _find_checksum(file, path)
    problem = find_problem(path, path.suffix, checksum)
    if problem:
        raise DataError(
            f"{path} is there but is not the file that belongs there: {problem}. It was not "
            "touched: move it away and run the same command again"
        )
    result = checksum.describe() if checksum else _record(file, path, "found in place")
    say(f"{path.name}: there; {result}")


def _record(file: RemoteFile, path: Path, url: str) -> str:
    """Write a file's entry, and return the sentence for a file without a checksum."""
    digests = compute_digests(path)
    published = file.checksum and f"{file.checksum.algorithm}, {file.checksum.origin}"
    entry = {
        "url": url,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "n_bytes": path.stat().st_size,
        **digests,
        "checked": published or FIRST_USE,
    }
    entries = load_entries(path.parent) | {path.name: entry}
    text = json.dumps({"files": dict(sorted(entries.items()))}, indent=2)
    write_atomic(path.parent / RECORD, text + "\n")
    return (
        f"no checksum is published: its sha256 was recorded in {RECORD}, not verified "
        f"({digests['sha256']})"
    )


def load_entries(root: Path) -> dict[str, dict[str, Any]]:
    """Return what is recorded of the files in a folder. Raises DataError on a damaged record."""
    path = root / RECORD
    try:
        with open_file(path) as file:
            entries = json.loads(file.read())["files"]
        return {name: dict(entry) for name, entry in entries.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({error}): restore it, or delete it to record the files anew"
        ) from error


def find_state(source: Source, root: Path) -> str:
    """Say in a word or two whether a dataset is under `root`, without reading its files."""
    if not root.is_dir():
        return "no"
    for route in source.routes:
        present = [file for file in route.files if (root / file.name).exists()]
        if len(present) == len(route.files):
            return "yes"
        is_begun = present or any((root / f"{file.name}.part").exists() for file in route.files)
        if is_begun and (source.is_shared or not _list_other_data(route, root)):
            return f"{len(present)} of {len(route.files)} files"
    is_other = not source.is_shared and _list_other_data(source.routes[0], root)
    return "yes, by hand" if is_other else "no"
