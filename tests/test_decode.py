"""JPEGs decoded at no more than is needed: nearly the same pixels, under another name."""

import io
import pickle

import numpy as np
import pytest
from PIL import ExifTags, Image

from tlcnn.data import progress
from tlcnn.data.cache import load_image_cache
from tlcnn.data.decode import decode_images
from tlcnn.data.files import FileRef
from tlcnn.data.images import FileImages, decode_image
from tlcnn.data.resize import choose_decoding, decode_range, resize_image

RNG = np.random.default_rng(0)


def draw(width, height):
    """A photograph-like picture: smooth, with edges."""
    small = Image.fromarray(RNG.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    picture = small.resize((width, height), Image.Resampling.BICUBIC)
    picture.paste((20, 200, 90), (width // 3, height // 3, width // 2, height // 2))
    return picture


def encode(picture, format="JPEG", **options):
    content = io.BytesIO()
    picture.save(content, format, **options)
    return content.getvalue()


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / f"{i}.jpg" for i in range(3)]
    for i, path in enumerate(paths):
        path.write_bytes(encode(draw(640 + 31 * i, 480), quality=90))
    return FileImages([FileRef(path) for path in paths])


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [16, 31, 60, 72, 120, 200])
def test_a_scaled_image_is_nearly_the_full_one(size, fit):
    content = encode(draw(640, 480), quality=90)
    full = resize_image(decode_image(content, "a"), size, fit)
    scaled = decode_image(content, "a", (size, fit))
    side = (max if fit == "pad" else min)(scaled.shape[:2])
    assert side >= 2 * size or scaled.shape == (480, 640, 3)
    difference = np.abs(resize_image(scaled, size, fit).astype(int) - full)
    assert difference.mean() < 1.5


@pytest.mark.parametrize(
    ("size", "expected"), [(30, 60), (31, 120), (60, 120), (61, 240), (121, 480)]
)
def test_a_jpeg_is_decoded_as_small_as_twice_its_size_allows(size, expected):
    content = encode(draw(640, 480))
    assert min(decode_image(content, "a", (size, "crop")).shape[:2]) == expected


def test_the_log_says_how_far_the_decoding_is(images, monkeypatch, heard):
    monkeypatch.setattr(progress, "FIRST_LINE_S", -1.0)
    assert len(list(decode_images(images, 32, "crop", 0, False, lambda: False))) == 1
    assert "decoding images, once, 32 at a time: 0 of 1, about 0 s left" in heard.messages


def test_pad_goes_by_the_longer_side():
    content = encode(draw(640, 160))
    assert decode_image(content, "a", (80, "pad")).shape[:2] == (40, 160)
    assert decode_image(content, "a", (80, "crop")).shape[:2] == (160, 640)


def test_other_formats_are_decoded_whole():
    content = encode(draw(640, 480), "PNG")
    assert (decode_image(content, "a", (16, "crop")) == decode_image(content, "a")).all()


def test_a_scaled_image_is_upright():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    content = encode(draw(640, 480), exif=exif.tobytes())
    assert decode_image(content, "a", (30, "crop")).shape == (80, 60, 3)


def test_pickled_images_have_the_same_scaled_pixels(images):
    scaled = choose_decoding(images, 30, "crop", "scaled")
    here = np.stack([resize_image(scaled.load(i), 30, "crop") for i in range(3)])
    pixels, bad = decode_range(pickle.loads(pickle.dumps(scaled)), range(3), 30, "crop")
    assert not bad and (pixels == here).all()


def test_each_decoding_has_a_cache_of_its_own(images, tmp_path):
    caches = {
        decode: load_image_cache(
            images,
            digests=images.load_digests(),
            image_size=32,
            fit="crop",
            decode=decode,
            cache_dir=tmp_path / "cache",
            workers=1,
        ).array
        for decode in ("full", "scaled", "full")
    }
    assert len(list((tmp_path / "cache" / "images").glob("*.bin"))) == 2
    assert 0 < np.abs(caches["full"].astype(int) - caches["scaled"]).mean() < 1.5
    whole = np.stack([resize_image(images.load(i), 36, "crop") for i in range(3)])
    assert (caches["full"] == whole).all()


@pytest.mark.realdata
def test_ham10000_hardly_differs(shared):
    paths = sorted((shared / "data" / "ham10000_600x450").glob("*.jpg"))[:20]
    for path in paths:
        content = path.read_bytes()
        full, scaled = (
            resize_image(decode_image(content, "a", reduce_for), 72, "crop").astype(int)
            for reduce_for in (None, (72, "crop"))
        )
        assert np.abs(full - scaled).mean() < 0.4 and np.abs(full - scaled).max() < 12
