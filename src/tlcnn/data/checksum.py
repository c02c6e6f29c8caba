"""Whether a file is what it should be: by its digest, and roughly by its first and last bytes."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tlcnn.data.files import open_file, reading
from tlcnn.errors import StorageError


@dataclass(frozen=True)
class Checksum:
    """What a file's digest must be.

    Attributes:
        algorithm: md5 or sha256.
        value: the digest in hex.
        origin: where it is from, for messages: "as published by Zenodo".
        advice: the advice for a file with another digest; may be empty.
    """

    algorithm: str
    value: str
    origin: str
    advice: str = ""


def find_problem(path: Path, suffix: str, checksum: Checksum | None) -> str:
    """Say why a file is not what it should be; "" when nothing is wrong.

    Args:
        suffix: the suffix of the finished file, which tells what its bytes begin and end with.
    """
    with reading(path, StorageError), open_file(path) as file:
        first = file.read(512)
    if suffix in (".zip", ".npz"):
        if not first.startswith(b"PK"):
            return f"it is no {suffix} file but begins with {first[:24]!r}"
        # Where neither a size nor a digest is known, only the end says that nothing was cut off.
        if not zipfile.is_zipfile(path):
            return f"it is no whole {suffix} file: its end, the list of its members, is missing"
    if suffix == ".csv" and first.lstrip()[:1] in (b"<", b"{", b""):
        return f"it is no table but begins with {first[:24]!r}"
    if checksum is None or (digest := compute_digests(path)[checksum.algorithm]) == checksum.value:
        return ""
    problem = f"its {checksum.algorithm} is {digest}, not {checksum.value} ({checksum.origin})"
    return f"{problem}; {checksum.advice}" if checksum.advice else problem


def compute_digests(path: Path) -> dict[str, str]:
    """Return a file's md5 and sha256 in hex. Raises StorageError when it cannot be read."""
    digests = (hashlib.md5(usedforsecurity=False), hashlib.sha256())
    with reading(path, StorageError), open_file(path) as file:
        while block := file.read(1 << 20):
            for digest in digests:
                digest.update(block)
    return {digest.name: digest.hexdigest() for digest in digests}
