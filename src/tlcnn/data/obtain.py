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
from tlcnn.data.datasets.ham10000 import load_ham10000
from tlcnn.data.datasets.lc25000_lung import find_tiles
from tlcnn.data.download import fetch_file
from tlcnn.data.files import IMAGE_SUFFIXES, is_hidden, open_file, reading
from tlcnn.data.sources import BY_HAND, RemoteFile, Route, Source, make_addresses
from tlcnn.errors import DataError, StorageError, list_names
from tlcnn.storage import hold_lock, make_dir, write_atomic

RECORD = "SOURCES.json"
DATA_SUFFIXES = (*IMAGE_SUFFIXES, ".csv", ".tab", ".tsv", ".zip", ".part")
FIRST_USE = "first use: no checksum is published, so this digest was recorded, not verified"

Say = Callable[[str], None]


def obtain(
    source: Source,
    route: Route | None,
    root: Path,
    *,
    mirrors: Sequence[str] = (),
    replacement: str = "",
    say: Say,
) -> None:
    """Put every file of a route under `root`, verified.

    Nothing is fetched where the dataset already lies in another layout.

    Args:
        route: None where the dataset must be got by hand.
        mirrors: beginnings of addresses to try before the source's own.
        replacement: the beginning that replaces the source's scheme and host.

    Raises:
        ConfigError: a mirror is no address.
        DataError: a file is there but wrong, or cannot be fetched, or something else is there.
        StorageError: a full disk, or a folder that cannot be written.
    """
    if route is not None:
        make_addresses(route.page, mirrors, replacement)  # refuses what is no address
    other_data = _list_other_data(source, route, root)
    if other_data and (n_images := _count_images(source.name, root)):
        say(f"{source.name}: {n_images:,} images are there already; nothing needs to be fetched")
        return
    if route is None:
        raise DataError(BY_HAND[source.name].format(root=root))
    if other_data:
        raise DataError(
            f"{root} holds something else already ({list_names(other_data)}) that is not all of "
            f"{source.name}: move it away or give another folder with --root, because what lies "
            "in one folder is read together"
        )
    say(f"from {route.page} to {root}")
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
    say(f"{source.name} is complete in {root}")


def _list_other_data(source: Source, route: Route | None, root: Path) -> list[str]:
    """List what a reader would read and the route does not bring."""
    if source.is_shared or not root.is_dir():
        return []
    route_names = {file.name for file in route.files} if route else set()
    with reading(f"the folder {root}", StorageError):
        paths = list(root.iterdir())
    return sorted(
        path.name
        for path in paths
        if (path.suffix.lower() in DATA_SUFFIXES or path.is_dir())
        and not is_hidden(path.name)
        and path.name.removesuffix(".part") not in route_names
    )


def _count_images(name: str, root: Path) -> int:
    """Return the number of images that a dataset's reader finds, 0 where it refuses them."""
    try:
        if name == "lc25000_lung":
            return len(find_tiles(root))
        return len(load_ham10000(root, name=name))
    except DataError:
        return 0


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
        say(f"{path.name}: fetched; {_record(file, path, url, checksum)}")


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
    result = _describe(checksum) if checksum else _record(file, path, "found in place", None)
    say(f"{path.name}: there; {result}")


def _describe(checksum: Checksum) -> str:
    return f"{checksum.algorithm} is right, {checksum.origin}"


def _record(file: RemoteFile, path: Path, url: str, checksum: Checksum | None) -> str:
    """Write a file's entry, and return how the file was verified."""
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
    if checksum:
        return _describe(checksum)
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
    for route in source.routes:
        present = [file for file in route.files if (root / file.name).exists()]
        if len(present) == len(route.files):
            return "yes"
        is_begun = present or any((root / f"{file.name}.part").exists() for file in route.files)
        if is_begun and not _list_other_data(source, route, root):
            return f"{len(present)} of {len(route.files)} files"
    return "yes, by hand" if _list_other_data(source, None, root) else "no"
