"""Atomic files and remembered facts."""

import os
import threading

import pytest

from tlcnn import storage
from tlcnn.errors import StorageError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    storage.write_atomic(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*file: No space left.*MiB free"):
        storage.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path):
    path, outside = tmp_path / "folder" / "file", tmp_path / "outside"
    path.parent.mkdir()
    outside.write_text("as it was")
    temporary = f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp"
    (path.parent / temporary).symlink_to(outside)
    storage.write_atomic(path, "new")
    assert path.read_text() == "new" and outside.read_text() == "as it was"
    assert not path.is_symlink()


def test_a_folder_that_cannot_be_made_says_so():
    with pytest.raises(StorageError, match="/dev/null/x"):
        storage.make_dir(storage.Path("/dev/null/x"))


def test_a_fact_is_found_out_once_per_key(tmp_path):
    asked = []

    def compute():
        asked.append(1)
        return {"answer": 42}

    assert storage.remember(tmp_path, "fact", ["a"], compute) == {"answer": 42}
    assert storage.remember(tmp_path, "fact", ["a"], compute) == {"answer": 42}
    assert len(asked) == 1
    storage.remember(tmp_path, "fact", ["b"], compute)
    assert len(asked) == 2


def test_a_damaged_fact_is_found_out_again(tmp_path):
    storage.remember(tmp_path, "fact", 1, lambda: "good")
    (fact,) = (tmp_path / "facts").iterdir()
    fact.write_text('"go')
    assert storage.remember(tmp_path, "fact", 1, lambda: "new") == "new"


def test_a_digest_follows_the_content(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = storage.load_file_digest(path, tmp_path)
    path.write_bytes(b"other")
    assert storage.load_file_digest(path, tmp_path) != first
    path.write_bytes(b"one")
    assert storage.load_file_digest(path, tmp_path) == first


def test_threads_that_write_one_file_at_once_leave_a_whole_one(tmp_path):
    path, texts = tmp_path / "file", [str(i) * 10_000 for i in range(8)]
    threads = [threading.Thread(target=storage.write_atomic, args=(path, t)) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts


def test_a_fact_that_cannot_be_stored_is_computed(tmp_path):
    (tmp_path / "facts").write_text("no folder")
    assert storage.remember(tmp_path, "fact", 1, lambda: "good") == "good"
