"""One file from the network: whole and verified under its name, or not there at all.

    addresses in order -> NAME.part, a cut is resumed with Range -> size, kind, checksum -> NAME

Beside NAME.part lies NAME.part.json, which says what it is the beginning of, so that a part is
never continued with bytes of another version.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn import __version__
from tlcnn.data.checksum import Checksum, find_problem
from tlcnn.data.files import open_file
from tlcnn.errors import DataError, StorageError
from tlcnn.storage import sync_folder, write_atomic, writing

if TYPE_CHECKING:
    from requests import Response

USER_AGENT = f"tlcnn/{__version__}"  # Dataverse refuses Python's own
BLOCK_BYTES = 1 << 16
TIMEOUT_S = (15, 60)  # to connect, and between two blocks
N_TRIES = 4  # without a new byte
PAUSE_S = 0.5  # before the second try; doubles
MAX_PAUSE_S = 30.0
FLEETING = (408, 425, 429, 500, 502, 503, 504)  # answers that may change soon


@dataclass(frozen=True)
class Beginning:
    """What NAME.part is the beginning of.

    Attributes:
        validator: a strong ETag or a date of change; empty where the server gives none.
        n_total: bytes of the whole file, where the server says so.
    """

    url: str
    validator: str
    n_total: int | None


class Refused(Exception):
    """This address does not give the file; another one may."""


class Cut(Exception):
    """The transfer ended too early; trying again may go on."""

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


def fetch_file(
    path: Path,
    urls: Sequence[str],
    checksum: Checksum | None,
    *,
    advice: str,
    say: Callable[[str], None],
) -> str:
    """Put a file in place from the first address that gives it, and return that address.

    Args:
        path: the place of the finished file; its folder exists.
        advice: the last lines of the message when no address gives the file.
        say: a function that is called with what goes wrong on the way.

    Raises:
        DataError: no address gives the file.
        StorageError: it does not fit on the disk, or the disk cannot be written. What has
            arrived is kept.
    """
    failures = []
    for url in urls:
        try:
            _fetch_from(url, path, checksum, say)
            return url
        except Refused as refusal:
            failures.append(f"  {url}: {refusal}")
    raise DataError("\n".join([f"{path.name} could not be fetched:", *failures, advice]))


def _fetch_from(
    url: str, path: Path, checksum: Checksum | None, say: Callable[[str], None]
) -> None:
    most, n_failed = 0, 0
    while True:
        try:
            return _accept(path, checksum, is_resumed=_transfer(url, path, checksum))
        except Cut as cut:
            n_bytes = _measure_part(path)
            n_failed = 1 if n_bytes > most else n_failed + 1
            most = max(most, n_bytes)  # so that a server without ranges cannot keep us for ever
            if n_failed >= N_TRIES:
                raise Refused(f"{cut} ({N_TRIES} tries)") from cut
            say(f"{path.name}: {cut}; trying again")
            time.sleep(max(min(cut.pause_s, MAX_PAUSE_S), PAUSE_S * 2 ** (n_failed - 1)))


def find_part(path: Path) -> Path:
    """Return where the beginning of a file is kept while it arrives."""
    return path.with_name(f"{path.name}.part")


def _find_note(path: Path) -> Path:
    return path.with_name(f"{path.name}.part.json")


def _measure_part(path: Path) -> int:
    part = find_part(path)
    return part.stat().st_size if part.exists() else 0


def _discard(path: Path) -> None:
    # The note last: a note without a part is harmless, a part without its note is discarded.
    for part in (find_part(path), _find_note(path)):
        with writing(part):
            part.unlink(missing_ok=True)


def _transfer(url: str, path: Path, checksum: Checksum | None) -> bool:
    """Let NAME.part grow to the whole file; return whether it continued earlier bytes.

    Raises:
        Cut: it is not whole yet.
        Refused: the server gives something else.
    """
    old, start = _find_beginning(url, path, checksum)
    if old and start == old.n_total:
        return True
    headers = {"Range": f"bytes={start}-"} if start else {}
    if old and start and old.validator and old.url == url:
        headers["If-Range"] = old.validator
    with _ask(url, headers) as response:
        new = _check_answer(response, url, old, start)
        if new is None:
            _discard(path)
            raise Cut("the part on disk is of another version; starting again")
        if response.status_code != 206:
            start = 0
        if not start:
            _discard(path)
            write_atomic(_find_note(path), json.dumps(asdict(new)))
        _append(response, path, start, new.n_total)
    n_bytes = _measure_part(path)
    if new.n_total is not None and n_bytes != new.n_total:
        raise Cut(f"the connection was cut after {n_bytes:,} of {new.n_total:,} bytes")
    return start > 0


def _find_beginning(
    url: str, path: Path, checksum: Checksum | None
) -> tuple[Beginning | None, int]:
    """Return what the part on disk is the beginning of, and how many of its bytes may stay.

    They may stay when bytes of another version would be recognised.
    """
    try:
        with open_file(_find_note(path)) as file:
            old = Beginning(**json.loads(file.read()))
    except (OSError, ValueError, TypeError):  # none, or a damaged one: then nothing is known
        return None, 0
    n_bytes = _measure_part(path)
    is_recognised = (old.url == url and old.validator) or checksum or n_bytes == old.n_total
    fits = old.n_total is None or n_bytes <= old.n_total
    return old, n_bytes if is_recognised and fits else 0


def _ask(url: str, headers: dict[str, str]) -> "Response":
    import requests

    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
    try:
        return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except (requests.RequestException, ValueError) as error:
        last = str(error).rsplit(": ", 1)[-1].strip("'\")( ")  # of a nested error the telling part
        reason = f"no connection ({last})" if last else "no connection"
        if isinstance(error, (requests.exceptions.SSLError, ValueError)):  # no address at all
            raise Refused(reason) from error
        raise Cut(reason) from error


def _check_answer(
    response: "Response", url: str, old: Beginning | None, start: int
) -> Beginning | None:
    """Return what the answer is the beginning of; None where it does not continue the part."""
    status, headers = response.status_code, response.headers
    if status in FLEETING:
        pause = headers.get("Retry-After", "")
        raise Cut(f"{status} {response.reason}", float(pause) if pause.isdigit() else 0.0)
    if status not in (200, 206) and not (start and status == 416):
        raise Refused(f"{status} {response.reason}")
    if headers.get("Content-Type", "").startswith("text/html"):
        raise Refused("a web page came instead of the file")
    etag = headers.get("ETag", "")
    is_weak = not etag or etag.startswith("W/")  # a weak one is not allowed in If-Range
    validator = headers.get("Last-Modified", "") if is_weak else etag
    if status == 200:
        length = headers.get("Content-Length", "")
        is_packed = headers.get("Content-Encoding", "identity") != "identity"
        n_total = int(length) if length.isdigit() and not is_packed else None
        return Beginning(url, validator, n_total)
    content_range = re.fullmatch(r"bytes (\d+)-\d*/(\d+|\*)", headers.get("Content-Range", ""))
    if not (old and content_range and int(content_range[1]) == start):
        return None
    n_total = int(content_range[2]) if content_range[2] != "*" else None
    is_same_size = None in (n_total, old.n_total) or n_total == old.n_total
    is_same = is_same_size and (url != old.url or validator == old.validator)
    return Beginning(url, validator, n_total) if is_same else None


def _append(response: "Response", path: Path, start: int, n_total: int | None) -> None:
    import requests
    from tqdm import tqdm

    n_needed, n_free = (n_total or 0) - start, shutil.disk_usage(path.parent).free
    if n_needed > n_free:
        raise StorageError(
            f"{path.name} needs {n_needed / 2**20:,.1f} MiB and the disk of {path.parent} has "
            f"{n_free / 2**20:,.1f} MiB free: make room, or give a folder elsewhere with --root"
        )
    part = find_part(path)
    progress = tqdm(  # disable=None: only on a terminal
        total=n_total, initial=start, unit="B", unit_scale=True, desc=path.name, disable=None
    )
    with progress, writing(part), open(part, "ab") as file:
        try:
            for block in response.iter_content(BLOCK_BYTES):
                file.write(block)
                progress.update(len(block))
        except requests.RequestException as error:  # an OSError too, but not one of the disk's
            raise Cut("the connection was cut") from error
        file.flush()
        os.fsync(file.fileno())


def _accept(path: Path, checksum: Checksum | None, is_resumed: bool) -> None:
    """Give a whole part its name, or discard it and say why."""
    part = find_part(path)
    problem = find_problem(part, path.suffix, checksum)
    if problem:
        _discard(path)
        if is_resumed:  # perhaps of two versions after all
            raise Cut(f"after resuming, {problem}; starting again")
        raise Refused(problem)
    with writing(path):
        os.replace(part, path)
        sync_folder(path.parent)
    _discard(path)
