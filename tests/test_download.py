"""Whatever happens on the way, a file is whole and right under its name, or not there."""

import hashlib
import io
import os
import random
import shutil
import zipfile
from types import SimpleNamespace

import pytest
from file_server import PAGE, serve_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlcnn.data import download
from tlcnn.data.checksum import Checksum, compute_digests, find_problem
from tlcnn.data.download import USER_AGENT, fetch_file, find_part
from tlcnn.errors import DataError, StorageError

SIZE = 600_000
HALF = SIZE // 2


def make_zip(seed):
    """Return an archive of SIZE bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a"), random.Random(seed).randbytes(SIZE - 100))
    return buffer.getvalue()


CONTENT, OTHER = make_zip(0), make_zip(1)
assert len(CONTENT) == SIZE


def md5_of(content):
    return Checksum("md5", hashlib.md5(content).hexdigest(), "as published")


def sha256_of(content):
    return Checksum("sha256", hashlib.sha256(content).hexdigest(), "as recorded")


RIGHT = md5_of(CONTENT)


def fetch(server, folder, checksum=RIGHT, *, name="a.zip", say=None, urls=None):
    folder.mkdir(exist_ok=True)
    urls = urls or [f"{server.url}/{name}"]
    told = [] if say is None else say
    url = fetch_file(folder / name, urls, checksum, advice="By hand: do.", say=told.append)
    assert [path.name for path in folder.iterdir()] == [name], "something is left over"
    return url


def refused(server, folder, text, checksum=RIGHT, **options):
    with pytest.raises(DataError) as caught:
        fetch(server, folder, checksum, **options)
    message = str(caught.value)
    assert text in message and message.endswith("By hand: do."), message
    assert not (folder / options.get("name", "a.zip")).exists()
    return message


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Pause for a millisecond between two tries."""
    monkeypatch.setattr(download, "PAUSE_S", 0.001)


@pytest.fixture
def server():
    with serve_files({"/a.zip": CONTENT}) as server:
        yield server


@pytest.mark.parametrize("checksum", [RIGHT, sha256_of(CONTENT), None])
def test_a_file_arrives(server, tmp_path, checksum):
    assert fetch(server, tmp_path / "x", checksum) == f"{server.url}/a.zip"
    assert (tmp_path / "x" / "a.zip").read_bytes() == CONTENT
    assert server.asked[0].headers["User-Agent"] == USER_AGENT and "tlcnn" in USER_AGENT


def test_digests(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert compute_digests(tmp_path / "x") == {
        "md5": "900150983cd24fb0d6963f7d28e17f72",
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }


def make_odd_files(folder):
    """Return a pipe, a folder and a link to itself."""
    pipe, inner, loop = folder / "pipe.zip", folder / "folder.zip", folder / "loop.zip"
    os.mkfifo(pipe)
    inner.mkdir()
    loop.symlink_to(loop)
    return pipe, inner, loop


def test_what_is_no_regular_file_is_named_and_not_waited_for(tmp_path):
    for path in make_odd_files(tmp_path):
        with pytest.raises(StorageError, match=f"cannot read {path}: "):
            find_problem(path, ".zip", None)
        with pytest.raises(StorageError, match=f"cannot read {path}: "):
            compute_digests(path)


def test_a_pipe_in_the_place_of_a_part_or_its_note_is_replaced(server, tmp_path):
    os.mkfifo(find_part(tmp_path / "a.zip"))
    os.mkfifo(tmp_path / "a.zip.part.json")
    fetch(server, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    message = refused(server, tmp_path, f"not {md5_of(OTHER).value} (as published)", md5_of(OTHER))
    assert RIGHT.value in message and list(tmp_path.iterdir()) == []
    assert len(server.asked) == 1, "another try gives the same bytes"


@pytest.mark.parametrize("validator", ["etag", "date"])
@pytest.mark.parametrize("checksum", [RIGHT, None])
def test_a_cut_is_resumed(server, tmp_path, checksum, validator):
    server.cuts, server.validator = [HALF], validator
    told = []
    fetch(server, tmp_path, checksum, say=told)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    first, second = server.asked
    assert HALF - 70_000 < second.first <= HALF and second.headers["If-Range"]
    assert "cut" in told[0] and "trying again" in told[0]
    assert server.n_sent < 1.2 * SIZE


def test_ranges_that_end_early_are_put_together(server, tmp_path):
    server.cuts, server.longest = [HALF], 100_000
    fetch(server, tmp_path, None)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT and len(server.asked) == 5


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.cuts, server.has_ranges = [HALF], False
    fetch(server, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT and server.n_sent == SIZE + HALF


def test_a_server_that_always_cuts_ends(server, tmp_path):
    server.cuts, server.has_ranges = [HALF, SIZE - 1] * 20, False
    refused(server, tmp_path, "4 tries")
    assert len(server.asked) < 9


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cuts=st.lists(st.integers(0, SIZE - 1), max_size=3),
    has_ranges=st.booleans(),
    validator=st.sampled_from(["etag", "date", ""]),
    has_checksum=st.booleans(),
)
def test_any_cuts_end_in_the_same_bytes(
    tmp_path_factory, cuts, has_ranges, validator, has_checksum
):
    folder = tmp_path_factory.mktemp("cuts")
    options = {"cuts": list(cuts), "has_ranges": has_ranges, "validator": validator}
    with serve_files({"/a.zip": CONTENT}, **options) as server:
        fetch(server, folder, RIGHT if has_checksum else None)
    assert (folder / "a.zip").read_bytes() == CONTENT
    shutil.rmtree(folder)


def leave_part(server, folder, content=CONTENT):
    """Leave the first half of a file, as a killed process does."""
    server.files["/a.zip"], server.cuts = content, [HALF, *[0] * 9]
    with pytest.raises(DataError):
        fetch(server, folder)
    server.cuts = []
    server.asked.clear()
    assert HALF - 70_000 < find_part(folder / "a.zip").stat().st_size <= HALF


@pytest.mark.parametrize("checksum", [RIGHT, None])
@pytest.mark.parametrize("validator", ["etag", "date", ""])
@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_part_of_another_version_is_never_continued(
    server, tmp_path, validator, checksum, heeds_if_range
):
    server.validator, server.heeds_if_range = validator, heeds_if_range
    leave_part(server, tmp_path, OTHER)
    server.files["/a.zip"] = CONTENT
    fetch(server, tmp_path, checksum)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_of_another_size_is_never_continued(server, tmp_path):
    server.validator = ""
    leave_part(server, tmp_path, OTHER + b"more")
    server.files["/a.zip"] = CONTENT
    fetch(server, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_without_its_note_is_not_trusted(server, tmp_path):
    leave_part(server, tmp_path)
    (tmp_path / "a.zip.part.json").write_text("{")
    fetch(server, tmp_path, None)
    assert [asked.first for asked in server.asked] == [0]


def test_a_whole_part_is_not_fetched_again(server, tmp_path):
    leave_part(server, tmp_path)
    find_part(tmp_path / "a.zip").write_bytes(CONTENT)
    fetch(server, tmp_path)
    assert server.asked == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_repeated(server, tmp_path, status):
    server.status = status
    message = refused(server, tmp_path, f"{server.url}/a.zip: {status} ")
    assert len(server.asked) == 1 and "<" not in message and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, tmp_path, status):
    server.statuses = [status, status]
    fetch(server, tmp_path)
    assert len(server.asked) == 3
    (tmp_path / "a.zip").unlink()
    server.status = status
    refused(server, tmp_path, f"{status} ")


@pytest.mark.parametrize("name", ["a.zip", "a.npz", "a.csv"])
@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_page_is_no_file(server, tmp_path, name, content_type):
    server.files[f"/{name}"], server.content_type = PAGE, content_type
    refused(server, tmp_path, "instead of" if "html" in content_type else "", None, name=name)
    assert list(tmp_path.iterdir()) == []


def test_bodies_of_unknown_length(server, tmp_path):
    server.has_length, server.cuts = False, [HALF]
    fetch(server, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["a.zip", "a.npz"])
@pytest.mark.parametrize("n_lost", [1, 21, HALF, SIZE - 2])
@pytest.mark.parametrize("has_length", [True, False])
def test_a_cut_archive_that_nobody_can_tell_by_its_size_or_digest(
    server, tmp_path, name, n_lost, has_length
):
    """As a mirror gives that was itself cut, or a server that announces no size."""
    server.files[f"/{name}"], server.has_length = CONTENT[:-n_lost], has_length
    refused(server, tmp_path, f"it is no whole {name[1:]} file: its end", None, name=name)
    assert list(tmp_path.iterdir()) == []
    server.files[f"/{name}"] = CONTENT
    fetch(server, tmp_path, None, name=name)
    assert (tmp_path / name).read_bytes() == CONTENT


def test_too_small_a_disk_is_noticed_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=SIZE - 1))
    with pytest.raises(StorageError, match=r"a.zip needs 0.6 MiB .* has 0.6 MiB free.*--root"):
        fetch(server, tmp_path)
    assert not find_part(tmp_path / "a.zip").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=SIZE))
    fetch(server, tmp_path)


def test_only_what_is_missing_must_fit(server, tmp_path, monkeypatch):
    leave_part(server, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=HALF + 70_000))
    fetch(server, tmp_path)


def test_the_next_address_is_tried(server, tmp_path):
    with serve_files({}) as empty, serve_files({"/a.zip": OTHER}) as wrong:
        urls = [f"{place.url}/a.zip" for place in (empty, wrong, server)]
        assert fetch(server, tmp_path, urls=urls) == urls[2]
    (tmp_path / "a.zip").unlink()
    message = refused(server, tmp_path, "no connection", urls=urls[:2])
    assert all(url in message for url in urls[:2])


def test_a_redirection_is_followed_and_resumed(server, tmp_path):
    """As a Dataverse sends to its storage."""
    server.cuts = [HALF]
    with serve_files({}, moved={"/a.zip": f"{server.url}/a.zip"}) as door:
        assert fetch(door, tmp_path) == f"{door.url}/a.zip"
    assert len(server.asked) == 2 and server.asked[1].first > 0


def test_another_address_continues_what_a_checksum_will_prove(server, tmp_path):
    leave_part(server, tmp_path)
    with serve_files({"/a.zip": CONTENT}, validator="date") as mirror:
        fetch(mirror, tmp_path)
        assert mirror.asked[0].first > 0 and mirror.n_sent < 0.7 * SIZE


def test_another_address_starts_anew_where_nothing_proves_it(server, tmp_path):
    leave_part(server, tmp_path)
    with serve_files({"/a.zip": CONTENT}) as mirror:
        fetch(mirror, tmp_path, None)
        assert mirror.asked[0].first == 0


def test_no_address_at_all(tmp_path):
    refused(None, tmp_path, "no connection", urls=["http:///x"])
