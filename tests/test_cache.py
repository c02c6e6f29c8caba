"""The image cache: right pixels, one builder at a time, nothing broken left behind."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlcnn import storage
from tlcnn.data import array_store
from tlcnn.data.cache import load_image_cache, make_cache_key, stored_size
from tlcnn.data.dicom import MissingPackage
from tlcnn.data.resize import resize_image
from tlcnn.errors import DataError, Stopped, StorageError

FITS = ("crop", "squash", "pad")


class Drawn:
    """N images of one colour each, some broken; counts how often each is loaded."""

    def __init__(self, n=70, bad=(), delay_s=0.0, shape=(20, 30)):
        self.n, self.bad, self.delay_s, self.shape = n, bad, delay_s, shape
        self.loaded = []

    def __len__(self):
        return self.n

    def signature(self):
        return self.n

    def load_digests(self):
        return [f"{i:064x}" for i in range(self.n)]

    def load(self, position):
        self.loaded.append(position)
        time.sleep(self.delay_s)
        if position in self.bad:
            raise DataError(f"image_{position}.jpg is truncated")
        return np.full((*self.shape, 3), position % 256, dtype=np.uint8)


def build(folder, images=None, **changes):
    images = Drawn() if images is None else images
    arguments = {
        "digests": images.load_digests(),
        "image_size": 16,
        "fit": "crop",
        "cache_dir": folder,
        "workers": 2,
    } | changes
    return load_image_cache(images, **arguments)


def files_of(folder):
    """What lies in the cache's folder, locks aside."""
    return sorted(p.name for p in (folder / "images").iterdir() if p.suffix != ".lock")


# ---- the value ----------------------------------------------------------------------------------


def test_every_image_is_in_its_place(tmp_path):
    images = Drawn(n=100)
    found = build(tmp_path, images)
    assert found.array.shape == (100, 18, 18, 3) and found.array.dtype == np.uint8
    assert (found.array == np.arange(100)[:, None, None, None]).all() and found.bad == ()
    assert sorted(images.loaded) == list(range(100))
    assert isinstance(found.array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.array[0] = 1


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells")
def test_images_are_read_without_their_neighbours(tmp_path):
    """Else an array larger than the memory pushes out what it has just read."""
    for found in (build(tmp_path), build(tmp_path)):  # built, and opened
        (name,) = (tmp_path / "images").glob("*.bin")
        blocks = Path("/proc/self/smaps").read_text().split("VmFlags:")
        after = [i + 1 for i, block in enumerate(blocks) if str(name) in block]
        assert len(found.array) and after
        assert all("rr" in blocks[i].splitlines()[0].split() for i in after)


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_workers_do_not_change_the_file(tmp_path, workers):
    build(tmp_path / "one", workers=1)
    build(tmp_path / "other", workers=workers)
    name = files_of(tmp_path / "one")[0]
    one, other = ((tmp_path / f / "images" / name).read_bytes() for f in ("one", "other"))
    assert one == other


def test_the_second_time_nothing_is_decoded(tmp_path):
    first = build(tmp_path)
    images = Drawn()
    second = build(tmp_path, images)
    assert images.loaded == [] and (first.array == second.array).all()


def test_whatever_changes_pixels_changes_the_key():
    digests = Drawn().load_digests()
    keys = {make_cache_key(digests, size, fit) for size in (18, 72) for fit in FITS}
    keys.add(make_cache_key(digests[::-1], 18, "crop"))
    keys.add(make_cache_key(["0" * 64, *digests[1:-1], "1" * 64], 18, "crop"))
    assert len(keys) == 8


def test_stored_size_has_a_margin_that_centres():
    for size in range(1, 300):
        margin = stored_size(size) - size
        assert margin % 2 == 0 and abs(margin - size / 8) <= 1


def test_fits_show_what_they_say():
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[:, :20], image[:, 60:] = 100, 200  # left and right quarters
    crop, squash, pad = (resize_image(image, 16, fit) for fit in FITS)
    assert crop[:, 1:-1].max() == 0  # the filter reaches a little beyond the crop
    assert (squash[:, 0] == 100).all() and (squash[:, -1] == 200).all()
    assert (pad[:3] == 0).all() and (pad[-3:] == 0).all() and (pad[6:10, 0] == 100).all()
    assert all(resized.shape == (16, 16, 3) for resized in (crop, squash, pad))


def test_shrinking_is_antialiased():
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    grey = resize_image(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), 16, "squash")
    assert np.abs(grey[2:-2, 2:-2].astype(int) - 127).max() <= 2


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 7)])
def test_extreme_shapes(fit, shape):
    flat = resize_image(np.full((*shape, 3), 9, np.uint8), 16, fit)
    assert flat.shape == (16, 16, 3) and flat.max() == 9


# ---- bad images ---------------------------------------------------------------------------------


def test_bad_images_are_all_tried_and_named(tmp_path):
    images = Drawn(bad=(3, 40, *range(60, 66)))
    with pytest.raises(DataError, match="8 of 70 images cannot be decoded: image 3 .*truncated.*"):
        build(tmp_path, images)
    assert sorted(images.loaded) == list(range(70))
    assert files_of(tmp_path) == []
    with pytest.raises(DataError, match="ISIC_3 .* and 3 more.*on_bad=skip"):
        build(tmp_path, images, ids=[f"ISIC_{i}" for i in range(70)])


def test_bad_images_are_skipped_and_listed(tmp_path):
    for _ in range(2):  # built, then opened
        found = build(tmp_path, Drawn(bad=(3, 40)), on_bad="skip")
        assert found.bad == (3, 40)
        assert (found.array[[3, 40]] == 0).all() and (found.array[41] == 41).all()
    with pytest.raises(DataError, match="2 of 70"):
        build(tmp_path, Drawn(bad=(3, 40)))


def test_what_an_earlier_version_could_not_decode_is_tried_again(tmp_path, heard):
    build(tmp_path, Drawn(bad=(3, 40)), on_bad="skip")
    found = build(tmp_path, Drawn(bad=(40,)), on_bad="skip")
    assert found.bad == (3, 40) and not found.array[3].any()  # as runs before
    assert "1 of the skipped images can be decoded now. Delete" in heard.text
    with pytest.raises(DataError, match=r"1 of 70 images cannot be decoded: image 40"):
        build(tmp_path, Drawn(bad=(40,)))
    images = Drawn()
    found = build(tmp_path, images)
    assert found.bad == () and (found.array[3] == 3).all() and (found.array[40] == 40).all()
    again = Drawn()
    assert build(tmp_path, again).bad == () and not again.loaded


def test_runs_that_skip_and_runs_that_refuse_leave_each_other_their_array(tmp_path):
    """Runs that skip see the same images as before; nothing is decoded again, whoever is next."""
    build(tmp_path, Drawn(bad=(3, 40)), on_bad="skip")
    assert build(tmp_path, Drawn()).bad == ()
    built = files_of(tmp_path)
    for on_bad, bad in 2 * [("skip", (3, 40)), ("refuse", ())]:
        images = Drawn()
        cache = build(tmp_path, images, on_bad=on_bad)
        assert cache.bad == bad and cache.array[3].any() == (not bad)
        assert set(images.loaded) <= {3, 40} and files_of(tmp_path) == built


def test_a_missing_package_is_no_fault_of_an_image(tmp_path):
    class NeedsPackage(Drawn):
        def load(self, position):
            raise MissingPackage("a.dcm is a DICOM file: pip install 'tlcnn[dicom]'")

    for on_bad in ("skip", "refuse"):
        with pytest.raises(MissingPackage):
            build(tmp_path, NeedsPackage(), on_bad=on_bad)
    assert files_of(tmp_path) == [] and build(tmp_path, Drawn()).bad == ()


def test_a_truncated_jpeg_is_bad(tmp_path):
    class Files(Drawn):
        def load(self, position):
            with Image.open(tmp_path / f"{position}.jpg") as image:
                return np.asarray(image.convert("RGB"))

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for i in range(3):
        Image.fromarray(noise).save(tmp_path / f"{i}.jpg")
    content = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "2.jpg").write_text("<html>404</html>")
    found = build(tmp_path / "cache", Files(n=3), on_bad="skip")
    assert found.bad == (1, 2)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_a_reader_that_breaks_its_contract_is_bad(tmp_path, shape):
    class Odd(Drawn):
        def load(self, position):
            return np.zeros(shape, dtype=np.uint8)

    with pytest.raises(DataError, match=r"\(H, W, 3\) uint8 expected"):
        build(tmp_path, Odd(n=2))


# ---- damage -------------------------------------------------------------------------------------


def damage_bit(path, sidecar):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def damage_length(path, sidecar):
    path.write_bytes(path.read_bytes()[:-100])


def damage_sidecar(path, sidecar):
    sidecar.write_text('{"shape"')


def damage_sidecar_type(path, sidecar):
    sidecar.write_text("[]")


def damage_bad_list(path, sidecar):
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"info": {"bad": [1]}}))


@pytest.mark.parametrize(
    "damage", [damage_bit, damage_length, damage_sidecar, damage_sidecar_type, damage_bad_list]
)
def test_a_damaged_cache_is_built_again_with_a_warning(tmp_path, damage, caplog):
    intact = np.array(build(tmp_path).array)
    path, sidecar = (tmp_path / "images" / name for name in files_of(tmp_path))
    damage(path, sidecar)
    images = Drawn()
    assert (build(tmp_path, images).array == intact).all() and len(images.loaded) == 70
    assert "damaged" in caplog.text
    caplog.clear()
    build(tmp_path)
    assert caplog.text == ""


def test_a_list_of_bad_images_that_was_changed_is_noticed(tmp_path):
    """Else black images would be trained on."""
    build(tmp_path, Drawn(bad=(3, 40)), on_bad="skip")
    (sidecar,) = (tmp_path / "images").glob("*.json")
    content = json.loads(sidecar.read_text())
    content.get("info", content)["bad"] = {}
    sidecar.write_text(json.dumps(content))
    assert build(tmp_path, Drawn(bad=(3, 40)), on_bad="skip").bad == (3, 40)


def test_an_array_without_its_sidecar_is_not_trusted(tmp_path):
    build(tmp_path)
    path, sidecar = (tmp_path / "images" / name for name in files_of(tmp_path))
    sidecar.unlink()
    path.write_bytes(b"half")
    assert (build(tmp_path).array[5] == 5).all()


# ---- stopping, killing, several builders --------------------------------------------------------


def test_stop_leaves_nothing(tmp_path):
    asked = iter([False, False, True])
    with pytest.raises(Stopped, match="run the same command again"):
        build(tmp_path, Drawn(n=500), should_stop=lambda: next(asked))
    assert files_of(tmp_path) == []


def test_stop_while_waiting(tmp_path):
    held, release = threading.Event(), threading.Event()

    def stop_slow():
        held.set()
        release.wait(10)
        return False

    builder = threading.Thread(target=lambda: build(tmp_path, should_stop=stop_slow))
    builder.start()
    held.wait(10)
    with pytest.raises(Stopped, match="waiting for another"):
        build(tmp_path, should_stop=lambda: True)
    release.set()
    builder.join()
    assert (build(tmp_path).array[7] == 7).all()


def _build_and_report(folder, barrier, queue):
    images = Drawn(n=200, delay_s=0.002)
    barrier.wait()
    found = build(folder, images)
    queue.put((len(images.loaded), int(found.array.sum())))


def test_threads_give_the_same_file(tmp_path):
    for folder, workers in (("one", 1), ("other", 2)):
        build(tmp_path / folder, Drawn(n=200, bad=(3, 150)), workers=workers, on_bad="skip")
    for name in files_of(tmp_path / "one"):
        one, other = ((tmp_path / f / "images" / name).read_bytes() for f in ("one", "other"))
        assert one == other


def test_stop_ends_the_threads(tmp_path):
    images = Drawn(n=5000, delay_s=0.001)
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        build(tmp_path, images, should_stop=lambda: next(asked))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert len(images.loaded) < 1000


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_of_four_processes_one_builds(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=_build_and_report, args=(tmp_path, barrier, queue))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(n for n, _ in results) == [0, 0, 0, 200]
    assert len({total for _, total in results}) == 1
    assert len(files_of(tmp_path)) == 2


SLOW_BUILDER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_cache import Drawn, build
build(Path({folder!r}), Drawn(n=4000, delay_s=0.01))
"""


@pytest.mark.skipif(os.name == "nt", reason="kills with SIGKILL")
def test_a_killed_builder_leaves_no_lock_and_its_rest_is_swept(tmp_path):
    code = SLOW_BUILDER.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    deadline = time.monotonic() + 30
    while not list((tmp_path / "images").glob(".*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(files_of(tmp_path)) == 1  # the temporary file
    start = time.monotonic()
    build(tmp_path, Drawn(n=5))  # another cache: sweeps what nobody is building
    assert time.monotonic() - start < 5
    assert not [name for name in files_of(tmp_path) if name.endswith(".tmp")]


# ---- the disk -----------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_names_the_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="TLCNN_CACHE"):
        build(tmp_path / "file" / "cache")


def test_a_small_disk_is_refused_before_decoding(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(array_store.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    images = Drawn()
    with pytest.raises(StorageError, match=r"needs 1 MiB.*0 MiB free.*TLCNN_CACHE"):
        build(tmp_path, images)
    assert images.loaded == []


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_cache import Drawn, build, files_of
from tlcnn.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    build(Path({folder!r}), Drawn(n=1000))
except StorageError as error:
    assert "TLCNN_CACHE" in str(error), error
    assert files_of(Path({folder!r})) == [], files_of(Path({folder!r}))
    print("refused")
"""


@pytest.mark.skipif(os.name == "nt", reason="limits files with setrlimit")
def test_a_disk_that_fills_up_is_an_error_and_not_a_crash(tmp_path):
    code = FULL_DISK.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "refused", done.stderr


def test_a_finished_cache_opens_on_a_read_only_disk(tmp_path, monkeypatch):
    build(tmp_path)

    def fail(*args, **kwargs):
        raise PermissionError(13, "read-only file system")

    monkeypatch.setattr(storage, "FileLock", fail)
    assert build(tmp_path).array.shape[0] == 70


@pytest.mark.realdata
def test_real_images_decode(shared, tmp_path):
    files = sorted((shared / "data" / "ham10000_600x450").rglob("*.jpg"))[:40]

    class Files(Drawn):
        def load(self, position):
            with Image.open(files[position]) as image:
                return np.asarray(image.convert("RGB"))

    found = build(tmp_path, Files(n=len(files)), image_size=64)
    assert found.array.shape == (40, 72, 72, 3)
    assert found.array.reshape(40, -1).std(axis=1).min() > 5
