"""Files of a dataset: plain files and members of zip archives, which are read without extracting.

Nothing of an archive is ever written to disk, and only members whose declared size, ratio, name
and kind are harmless are read.
"""

import errno
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

from tlcnn.data.dicom import SUFFIXES as DICOM_SUFFIXES
from tlcnn.errors import DataError, TlcnnError, list_names
from tlcnn.text import count

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

# Files that may hold images, and are not read.
UNREAD_SUFFIXES = frozenset(
    (".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jfif", ".jpe", ".jp2", ".j2k", ".heic", ".heif")
    + (".avif", ".dcm", ".dicom", ".ima", ".nii", ".nrrd", ".mha", ".mhd", ".hdr", ".tga", ".exr")
    + (".svs", ".ndpi", ".mrxs", ".scn", ".npy", ".npz", ".mat", ".raw", ".dng", ".cr2", ".nef")
    + (".arw", ".zip", ".gz", ".tar", ".7z", ".rar")
)

MAX_FILE_BYTES = 100 * 2**20  # a plain file: 25 M pixels uncompressed, and room
MAX_MEMBER_BYTES = 25 * 2**20
MAX_MEMBER_RATIO = 100  # images hardly compress; deflate's bombs reach 1,029
RATIO_FREE_BYTES = 2**20  # below this size, a high ratio harms nobody
MAX_MEMBERS = 50_000
TAIL_BYTES = 4096  # by which two plain files are compared


@dataclass(frozen=True)
class FileRef:
    """A file, or a member of a zip archive.

    Attributes:
        path: the file, or the archive that holds it.
        member: its name inside the archive; empty for a plain file.
        n_bytes: uncompressed size when it was listed.
        crc: checksum that the archive declares; None for a plain file.
    """

    path: Path
    member: str = ""
    n_bytes: int = 0
    crc: int | None = None

    @property
    def inner_path(self) -> PurePath:
        """The path inside the archive, or that of the plain file."""
        return PurePosixPath(self.member) if self.member else self.path

    @property
    def name(self) -> str:
        """File name without folders."""
        return self.inner_path.name

    @property
    def stem(self) -> str:
        """File name without folders and suffix."""
        return self.inner_path.stem

    @property
    def suffix(self) -> str:
        """Lower-case suffix with its dot, or an empty string."""
        return self.inner_path.suffix.lower()

    @property
    def is_image(self) -> bool:
        """Whether its suffix is that of an image format that can be read."""
        return self.suffix in IMAGE_SUFFIXES

    def __str__(self) -> str:
        return f"{self.member} in {self.path}" if self.member else str(self.path)


@contextmanager
def reading(place: object, error_type: type[TlcnnError] = DataError) -> Iterator[None]:
    """Turn an OSError into an error that names what cannot be read."""
    try:
        yield
    except OSError as error:
        raise error_type(f"cannot read {place}: {error.strerror or error}") from error


def check_folder(root: Path, expected: str) -> None:
    """Raise DataError when a dataset's folder is missing, saying what belongs there."""
    if not root.exists():
        raise DataError(f"no dataset at {root}: the folder does not exist. {expected}")
    if not root.is_dir():
        raise DataError(f"no dataset at {root}: it is a file, not a folder. {expected}")


def is_hidden(path: str) -> bool:
    """Whether a path is clutter of an operating system (`.DS_Store`, `__MACOSX/`, `Thumbs.db`).

    Example:
        >>> is_hidden("__MACOSX/._a.jpg"), is_hidden("part_1/a.jpg")
        (True, False)
    """
    parts = path.split("/")
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db") for part in parts)


def list_files(root: Path) -> list[FileRef]:
    """List the plain files under a folder, sorted, following links, without hidden ones.

    Raises:
        DataError: a folder cannot be read, or the name of an image is not UTF-8.
    """
    files = sorted(_walk(Path(root), frozenset()), key=lambda ref: ref.path.as_posix())
    places = [ref.path.relative_to(root).as_posix() for ref in files if ref.is_image]
    names = [os.fsencode(p) for p in places if re.search("[\udc80-\udcff]", p)]  # Python's bytes
    if names:
        raise DataError(
            f"{root}: the names of {len(names):,} images are not UTF-8, so they cannot be "
            f"recorded: {list_names(list(map(repr, names)))}. Rename them; "
            "`convmv -r -f latin1 -t utf8 --notest FOLDER` renames what Windows has written"
        )
    return files


def filter_images(files: Iterable[FileRef]) -> list[FileRef]:
    """Return the images among files: DICOM files only where there is no other image."""
    listed = list(files)
    images = [ref for ref in listed if ref.is_image]
    return images or [ref for ref in listed if ref.suffix in DICOM_SUFFIXES]


def compose_accents(text: str) -> str:
    """Write accents as one character (Unicode NFC), as not every disk does in names of files."""
    return unicodedata.normalize("NFC", text)


def describe_unread(files: Iterable[FileRef]) -> str:
    """Return how many files of which formats are left out, or an empty text.

    Example:
        >>> describe_unread([FileRef(Path(name)) for name in ("a.gif", "b.GIF", "c.md")])
        'left out 2 files that are not read (.gif 2)'
    """
    counts = Counter(ref.suffix for ref in files if ref.suffix in UNREAD_SUFFIXES)
    kinds = ", ".join(f"{suffix} {n:,}" for suffix, n in sorted(counts.items()))
    verb = "is" if counts.total() == 1 else "are"
    text = f"left out {count(counts.total(), 'file')} that {verb} not read ({kinds})"
    return text if counts else ""


def list_all_files(root: Path, skip: re.Pattern[str] | None = None) -> list[FileRef]:
    """List the plain files under a folder, then the members of the zip archives among them.

    Args:
        skip: a pattern; files and members whose path under `root` has it are left out.
    """

    def is_wanted(path: str) -> bool:
        return skip is None or not skip.search(path)

    plain = [ref for ref in list_files(root) if is_wanted(str(ref.path.relative_to(root)))]
    archives = [ref.path for ref in plain if ref.suffix == ".zip"]
    members = [ref for path in archives for ref in list_members(path) if is_wanted(ref.member)]
    return [ref for ref in plain if ref.suffix != ".zip"] + members


def find_images(
    candidates: Iterable[tuple[str, FileRef]], files: list[FileRef], root: Path, expected: str
) -> dict[str, FileRef]:
    """Return one file for each image id; the same image in several places counts once.

    Args:
        candidates: image ids and their files, among all `files` under `root`.
        expected: the sentence that says what belongs into the folder.

    Raises:
        DataError: there is no image, or an id has files with different content.
    """
    images: dict[str, FileRef] = {}
    for image_id, ref in candidates:
        first = images.setdefault(image_id, ref)
        if first is not ref and not is_same_content(first, ref):
            raise DataError(
                f"{image_id} is there twice with different content: {first} and {ref}. "
                "Keep one of them"
            )
    if not images:
        nested = [str(ref) for ref in files if ref.suffix == ".zip"]
        hint = f" Unpack the archive that holds archives once ({list_names(nested)})."
        raise DataError(f"no images at {root}.{hint if nested else ''} {expected}")
    return images


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[FileRef]:
    with reading(f"the folder {folder}"):
        status = folder.stat()
        inside = above | {(status.st_dev, status.st_ino)}
        entries = list(os.scandir(folder)) if len(inside) > len(above) else []  # a loop of links
    for entry in entries:
        if is_hidden(entry.name):
            continue
        with reading(entry.path):  # not so a link to itself
            is_dir, is_file = entry.is_dir(), entry.is_file()  # both false for a broken link
            n_bytes = entry.stat().st_size if is_file else 0
        if is_dir:
            yield from _walk(Path(entry.path), inside)
        elif is_file:
            yield FileRef(Path(entry.path), n_bytes=n_bytes)


def list_members(path: Path) -> list[FileRef]:
    """List the files inside a zip archive, sorted, without hidden ones.

    Raises:
        DataError: it is not a zip archive, or it holds anything that an archive of images never
            does (unsafe names, links, duplicates, bombs, encryption).
    """
    with open_archive(path) as archive:
        infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise DataError(f"{path} holds {len(infos):,} members; at most {MAX_MEMBERS:,} are read")
    names = [info.filename for info in infos]
    links = [info.filename for info in infos if stat.S_ISLNK(info.external_attr >> 16)]
    refused = {
        "names that point outside it": [name for name in names if _is_outside(name)],
        "symbolic links": links,
        "names that occur twice": [name for name, n in Counter(names).items() if n > 1],
    }
    for what, members in refused.items():
        if members:
            raise DataError(
                f"{path} is refused: it holds {len(members):,} {what} "
                f"({list_names(sorted(members))}). "
                "Fetch the archive again from where it was published"
            )
    refs = []
    for info in infos:
        if not info.is_dir() and not is_hidden(info.filename):
            refs.append(FileRef(path, info.filename, info.file_size, info.CRC))
            if refs[-1].is_image:
                check_member(path, info)
    return sorted(refs, key=lambda ref: ref.member)


def _is_outside(name: str) -> bool:
    parts = re.split(r"[\\/]", name)
    return parts[0] == "" or parts[0].endswith(":") or ".." in parts or "\0" in name


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive for reading. Raises DataError when it is broken or missing."""
    try:
        open_file(path).close()  # a pipe would be waited for
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path} is not a readable zip archive ({reason}); fetch it again"
        ) from error


def _check_size(name: object, n_bytes: int, limit: int) -> None:
    if n_bytes > limit:
        raise DataError(
            f"{name} is refused: {n_bytes / 2**20:,.0f} MiB, at most {limit >> 20} are read"
        )


def check_member(path: Path, info: zipfile.ZipInfo) -> None:
    """Raise DataError when a member must not be decompressed."""
    name = f"{info.filename} in {path}"
    if info.flag_bits & 0x1:
        raise DataError(f"{name} is encrypted; unpack the archive yourself")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name} is neither stored nor deflated; unpack the archive yourself")
    _check_size(name, info.file_size, MAX_MEMBER_BYTES)
    ratio = info.file_size / max(info.compress_size, 1)
    if ratio > MAX_MEMBER_RATIO and info.file_size > RATIO_FREE_BYTES:
        raise DataError(
            f"{name} is refused as a decompression bomb: it grows {ratio:,.0f} times, "
            f"at most {MAX_MEMBER_RATIO} is allowed"
        )


def read_file(ref: FileRef, archive: zipfile.ZipFile | None = None) -> bytes:
    """Return a file's bytes.

    Args:
        archive: the open archive of a member; opened and closed here when None.

    Raises:
        DataError: it is missing, unreadable, broken or larger than the limits above.
    """
    if not ref.member:
        with reading(ref), open_file(ref.path) as file:
            _check_size(ref, os.fstat(file.fileno()).st_size, MAX_FILE_BYTES)
            return file.read(MAX_FILE_BYTES)
    try:
        with reading(ref), nullcontext(archive) if archive else open_archive(ref.path) as opened:
            info = opened.getinfo(ref.member)
            check_member(ref.path, info)
            with opened.open(info) as member:
                return member.read(MAX_MEMBER_BYTES + 1)  # zipfile stops at the declared size
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"cannot read {ref}: {error}; fetch the archive again") from error


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; links are followed, a pipe is not waited for.

    Raises:
        OSError: there is no such file, or it is a folder, a pipe or a device.
    """
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def is_same_content(first: FileRef, second: FileRef) -> bool:
    """Whether two files very likely hold the same bytes, without reading all of them.

    Compares sizes, and then checksums (two members) or the last bytes (two plain files).
    """
    if first.n_bytes != second.n_bytes:
        return False
    if first.member and second.member:
        return first.crc == second.crc
    if first.member or second.member:  # an archive beside its unpacked files
        return True
    return _read_tail(first) == _read_tail(second)


def _read_tail(ref: FileRef) -> bytes:
    with reading(ref), open_file(ref.path) as file:
        file.seek(max(0, ref.n_bytes - TAIL_BYTES))
        return file.read(TAIL_BYTES)
