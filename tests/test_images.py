"""Decoding never returns a wrong image silently, and archives are read without harm."""

import hashlib
import io
import os
import pickle
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from deep_made import write_deep_colour, write_tiff
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from tlcnn.data import images as images_module
from tlcnn.data.depth import find_depth, load_depth
from tlcnn.data.files import (
    MAX_MEMBERS,
    FileRef,
    check_member,
    list_files,
    list_members,
    read_file,
)
from tlcnn.data.images import MAX_PIXELS, FileImages, decode_image
from tlcnn.data.resize import choose_decoding
from tlcnn.errors import DataError

GRADIENT = np.add.outer(np.arange(0, 160, 4), np.arange(0, 96, 2)).astype(np.uint8)  # (40, 48)
RGB = np.stack([GRADIENT, GRADIENT[::-1], 255 - GRADIENT], axis=-1)  # (40, 48, 3)


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


JPEG = encode(Image.fromarray(RGB), "JPEG", quality=95)


def test_what_is_no_regular_file_is_named_and_not_waited_for(tmp_path):
    pipe, folder, loop = tmp_path / "pipe.jpg", tmp_path / "folder.jpg", tmp_path / "loop.jpg"
    os.mkfifo(pipe)
    folder.mkdir()
    loop.symlink_to(loop)
    for path in (pipe, folder, loop):
        with pytest.raises(DataError, match=f"cannot read {path}: "):
            read_file(FileRef(path))
        with pytest.raises(DataError, match="cannot read|not a readable zip"):
            list_members(path)
    (tmp_path / "a.jpg").write_bytes(JPEG)
    with pytest.raises(DataError, match=f"cannot read {loop}: "):
        list_files(tmp_path)
    loop.unlink()
    assert [ref.name for ref in list_files(tmp_path)] == ["a.jpg"]


def test_lossless_formats_give_the_very_pixels():
    for format in ("PNG", "BMP", "TIFF"):
        assert (decode_image(encode(Image.fromarray(RGB), format), "a") == RGB).all()
    assert np.abs(decode_image(JPEG, "a").astype(int) - RGB).mean() < 4
    webp = encode(Image.fromarray(RGB), "WEBP", lossless=True)
    assert (decode_image(webp, "a") == RGB).all()


def test_result_is_rgb_uint8_and_writable():
    image = decode_image(JPEG, "a")
    assert image.dtype == np.uint8 and image.shape == (40, 48, 3) and image.flags.writeable


def test_grey_palette_and_bits_become_rgb():
    grey = Image.fromarray(GRADIENT)
    expected = np.repeat(GRADIENT[..., None], 3, axis=-1)
    assert (decode_image(encode(grey), "a") == expected).all()
    assert (decode_image(encode(grey.convert("P")), "a") == expected).all()
    bits = decode_image(encode(grey.point(lambda v: 255 * (v > 80)).convert("1")), "a")
    assert set(np.unique(bits)) == {0, 255} and bits.shape == (40, 48, 3)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_keep_the_upper_8(format):
    wide = Image.fromarray(GRADIENT.astype(np.uint16) * 256 + 7)
    image = decode_image(encode(wide, format), "a")
    assert (image == GRADIENT[..., None]).all()


def test_a_large_profile_or_text_is_no_reason_to_refuse_pixels():
    info = PngInfo()
    info.add_text("meta", "x" * (2 << 20), zip=True)
    for options in ({"icc_profile": bytes(2 << 20)}, {"pnginfo": info}):
        content = encode(Image.fromarray(RGB), **options)
        with pytest.raises(ValueError, match="(?i)too large"):
            Image.open(io.BytesIO(content)).load()
        assert (decode_image(content, "a") == RGB).all()
        with pytest.raises(DataError, match="a is broken or truncated"):
            decode_image(content[:-60], "a")


def write_deep(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint16)).save(path)


@pytest.mark.parametrize(
    ("largest", "bits"), [(90, 8), (1023, 10), (4000, 12), (16383, 14), (16384, 16), (65535, 16)]
)
def test_significant_bits_are_those_of_the_whole_dataset(tmp_path, largest, bits):
    write_deep(tmp_path / "bright.png", [[0, largest]])
    write_deep(tmp_path / "dark.tif", [[largest // 4, largest // 2]])
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "broken.png").write_bytes(b"no image")
    refs = list_files(tmp_path)
    images = FileImages(refs)
    assert images.may_be_deep and find_depth(images).bits == bits
    pixels = FileImages(refs, bits=bits).load(3)
    assert refs[3].name == "dark.tif"
    expected = [largest // 4 // 2 ** (bits - 8), largest // 2 // 2 ** (bits - 8)]
    assert pixels[0, :, 0].tolist() == expected
    assert not FileImages(refs[:1]).may_be_deep and find_depth(FileImages(refs[:1])).bits == 16


def test_the_depth_is_remembered_by_content(tmp_path, monkeypatch):
    write_deep(tmp_path / "a.png", [[0, 4095]])
    images = FileImages(list_files(tmp_path))
    depth = load_depth(images, "digest", tmp_path / "cache")
    monkeypatch.setattr(FileImages, "read", None)
    assert depth.bits == 12 and load_depth(images, "digest", tmp_path / "cache") == depth
    with pytest.raises(TypeError):
        load_depth(images, "another", tmp_path / "cache")


def test_values_beyond_the_bits_of_a_dataset_are_white(tmp_path):
    write_deep(tmp_path / "a.png", [[0, 4095, 4096, 65535]])
    images = choose_decoding(FileImages(list_files(tmp_path)), 8, "crop", "full", 12)
    assert images.load(0)[0, :, 0].tolist() == [0, 255, 255, 255]
    again = choose_decoding(images, 8, "crop", "scaled")
    assert again.bits == 12 and again.reduce_for == (8, "crop")


@pytest.mark.parametrize("bits", [8, 16])
def test_16_bit_images_that_store_white_as_0_are_counted(tmp_path, bits):
    """Pillow exchanges bright and dark in 8 bits, and not in 16."""
    values = np.array([[0, 2**bits - 1]], f"<u{bits // 8}")
    for number, photometric in enumerate((0, 1, 0, 0, 0)):
        write_tiff(tmp_path / f"{number}.tif", values, photometric=photometric)
    images = FileImages(list_files(tmp_path))
    shown = [images.load(n)[0, :, 0].tolist() for n in (0, 1)]
    assert shown == ([[255, 0], [0, 255]] if bits == 8 else [[0, 255], [0, 255]])
    depth = find_depth(images)
    assert depth.n_inverted == (0 if bits == 8 else 4)
    if bits == 16:
        assert "4 16-bit TIFF images with white stored as 0" in depth.describe_inverted()
        assert "(0.tif, 2.tif, 3.tif and 1 more)" in depth.describe_inverted()


@pytest.mark.parametrize(("largest", "bits"), [(200, 8), (4095, 12), (16383, 14), (65535, 16)])
def test_colour_images_with_few_of_16_bits_are_noticed(tmp_path, largest, bits):
    for number in range(2):
        write_deep_colour(tmp_path / f"{number}.png", np.full((2, 2, 3), largest >> number))
    Image.new("RGB", (2, 2), "white").save(tmp_path / "plain.png")
    images = FileImages(list_files(tmp_path))
    assert images.load(0)[0, 0, 0] == largest >> 8  # all that Pillow reads
    depth = find_depth(images)
    assert (depth.n_colour, depth.colour_bits, depth.bits) == (2, bits, 16)
    assert depth.is_narrow_colour == (bits < 16)


@pytest.mark.parametrize(
    ("values", "kind"), [("<f4", "float"), ("<i4", "32-bit"), ("<i2", "signed 16-bit")]
)
def test_pixels_without_a_fixed_range_are_called_what_they_are(tmp_path, values, kind):
    pixels = np.arange(-8, 8).reshape(4, 4).astype(values)
    write_tiff(tmp_path / "a.tif", pixels, sample={"f": 3, "i": 2}[values[1]])
    with pytest.raises(DataError, match=rf"^a\.tif has {kind} pixels, .* Save all images"):
        decode_image((tmp_path / "a.tif").read_bytes(), "a.tif")


def test_cmyk_jpeg_looks_like_the_rgb_it_was_made_from():
    content = encode(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode_image(content, "a").astype(int) - RGB).mean() < 4


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "CMYK"])
def test_colour_spaces_of_tiff_look_like_the_rgb_they_were_made_from(mode):
    content = encode(Image.fromarray(RGB).convert(mode), "TIFF")
    assert np.abs(decode_image(content, "a").astype(int) - RGB).mean() < 4


@pytest.mark.parametrize(("format", "tolerance"), [("MPO", 4), ("PNG", 0), ("TIFF", 0)])
def test_of_several_frames_the_first_is_read(format, tolerance):
    others = [Image.fromarray(255 - RGB), Image.new("RGB", (48, 40))]
    content = encode(Image.fromarray(RGB), format, save_all=True, append_images=others)
    assert np.abs(decode_image(content, "a").astype(int) - RGB).mean() <= tolerance


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode):
    alpha = np.zeros((40, 48), np.uint8)
    alpha[:20] = 255
    if mode == "P":
        image = Image.fromarray(np.where(alpha, 1, 0).astype(np.uint8), "P")
        image.putpalette([0, 0, 0, 9, 9, 9])
        content = encode(image, transparency=0)
        top = np.full((20, 48, 3), 9)
    elif mode == "LA":
        content = encode(Image.merge("LA", [Image.fromarray(GRADIENT), Image.fromarray(alpha)]))
        top = np.repeat(GRADIENT[:20, :, None], 3, axis=-1)
    else:
        content = encode(Image.fromarray(np.dstack([RGB, alpha]), "RGBA"))
        top = RGB[:20]
    image = decode_image(content, "a")
    assert (image[:20] == top).all() and (image[20:] == 255).all()


def test_every_exif_orientation_is_made_upright():
    stored = {  # orientation -> how such a camera stores the upright image
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, 1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB, -1),
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = encode(Image.fromarray(np.ascontiguousarray(pixels)), "PNG", exif=exif)
        assert (decode_image(content, "a") == RGB).all(), orientation


NO_TIFF = b"\xff" * 40
# An orientation (180 degrees), and a number of bits with a sign, which Pillow cannot write again.
WRONG_TAG = b"II*\0" + struct.pack("<IHHHIIHHIiI", 8, 2, 0x112, 3, 1, 3, 0x102, 8, 1, 0xFFFF, 0)


@pytest.mark.parametrize("exif", [NO_TIFF, WRONG_TAG])
def test_broken_exif_does_not_lose_good_pixels(exif):
    content = encode(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0" + exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode_image(content, "a").shape == RGB.shape


@pytest.mark.parametrize("keep", [0.99, 0.9, 0.5, 0.1])
def test_a_truncated_jpeg_is_named(keep):
    with pytest.raises(DataError, match=r"^b\.jpg is (broken or truncated|not an image)"):
        decode_image(JPEG[: int(len(JPEG) * keep)], "b.jpg")


def test_no_truncation_of_jpeg_or_png_gives_other_pixels():
    for content in (JPEG, encode(Image.fromarray(RGB))):
        whole = decode_image(content, "a")
        for n in range(1, len(content), 37):
            try:
                part = decode_image(content[:n], "a")
            except DataError:
                continue
            assert (part == whole).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\n<!DOCTYPE html><html>403 Forbidden</html>", "is a web page"),
        (b"hello", "is not an image of a known format"),
        (encode(Image.fromarray(RGB), "GIF"), "is not an image of a known format"),
        (encode(Image.fromarray(RGB), "PPM"), "is not an image of a known format"),
        (encode(Image.fromarray(RGB), "TGA"), "is not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not an image of a known format"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "is (broken|not an image)"),
    ],
)
def test_what_is_no_image_is_named(content, reason):
    with pytest.raises(DataError, match=rf"^x/c\.jpg {reason}"):
        decode_image(content, "x/c.jpg")


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    ihdr = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * 10))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [5_001, 15_000, 60_000])
def test_too_many_pixels_are_refused_before_decoding(side):
    with pytest.raises(DataError, match=r"^big\.png is refused: .*25,000,000"):
        decode_image(png_header(side, side), "big.png")
    assert Image.MAX_IMAGE_PIXELS == 89478485, "a process-wide setting of Pillow was changed"


def test_a_photo_of_many_pixels_is_read_smaller():
    content = encode(Image.new("L", (5_200, 5_000), 90), "JPEG")
    with pytest.raises(DataError, match=r"at most 25,000,000 .* dataset\.decode=scaled reads it"):
        decode_image(content, "photo.jpg")
    pixels = decode_image(content, "photo.jpg", reduce_for=(72, "crop"))
    assert pixels.shape == (625, 650, 3) and (pixels == 90).all()


def test_the_largest_allowed_image_is_decoded():
    side = int(MAX_PIXELS**0.5)
    assert decode_image(encode(Image.new("1", (side, side))), "a").shape == (side, side, 3)


def test_32_bit_pixels_are_refused_not_guessed():
    for dtype in (np.float32, np.int32):
        content = encode(Image.fromarray(GRADIENT.astype(dtype)), "TIFF")
        with pytest.raises(DataError, match="no fixed range"):
            decode_image(content, "a.tif")


# ---- files and archives


@pytest.fixture
def zipped(tmp_path):
    """An archive of three images in a folder, with clutter, and the same as plain files."""
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(3):
            content = encode(Image.fromarray(RGB + np.uint8(n)))
            archive.writestr(f"inner/{n}.png", content)
            (tmp_path / f"{n}.png").write_bytes(content)
        archive.writestr("__MACOSX/inner/._0.png", b"clutter")
        archive.writestr("inner/.DS_Store", b"clutter")
    return path


def test_members_equal_plain_files(zipped, tmp_path):
    members = FileImages([ref for ref in list_members(zipped) if ref.is_image])
    plain = FileImages([ref for ref in list_files(tmp_path) if ref.is_image])
    assert [ref.name for ref in members.refs] == [ref.name for ref in plain.refs]
    assert members.load_digests() == plain.load_digests()
    assert len(set(plain.load_digests())) == 3
    for n in range(3):
        assert (members.load(n) == plain.load(n)).all()


def test_images_are_pickled_without_open_files(zipped):
    images = FileImages(list_members(zipped))
    images.load(0)
    copy = pickle.loads(pickle.dumps(images))
    assert copy.refs == images.refs and (copy.load(2) == images.load(2)).all()


def test_signature_sees_changes_and_reads_no_content(zipped, tmp_path, monkeypatch):
    images = FileImages([*list_members(zipped), FileRef(tmp_path / "0.png")])
    monkeypatch.setattr("tlcnn.data.images.read_file", None)
    before = images.signature()
    assert images.signature() == before
    (tmp_path / "0.png").write_bytes(b"other")
    changed = images.signature()
    assert changed != before
    zipped.write_bytes(zipped.read_bytes() + b" ")
    assert images.signature() != changed


def test_a_missing_file_is_named(tmp_path):
    images = FileImages([FileRef(tmp_path / "gone.png")])
    for ask in (images.signature, images.load_digests, lambda: images.load(0)):
        with pytest.raises(DataError, match=r"cannot read .*gone\.png: No such file"):
            ask()


def write_zip(path, members, **attributes):
    with warnings.catch_warnings():  # zipfile warns of duplicate names
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                for key, value in attributes.items():
                    setattr(info, key, value)
                archive.writestr(info, content)


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/a.png", "C:\\a.png", "..\\a.png"])
def test_names_that_point_outside_are_refused(tmp_path, name):
    write_zip(tmp_path / "a.zip", [("ok.png", b"1"), (name, b"1")])
    with pytest.raises(DataError, match=r"a\.zip is refused: it holds 1 names that point outside"):
        list_members(tmp_path / "a.zip")


def test_links_duplicates_and_crowds_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    write_zip(path, [("a.png", b"/etc/passwd")], external_attr=0o120777 << 16)
    with pytest.raises(DataError, match=r"1 symbolic links \(a\.png\)"):
        list_members(path)
    write_zip(path, [("a.png", b"1"), ("a.png", b"2")])
    with pytest.raises(DataError, match=r"1 names that occur twice \(a\.png\)"):
        list_members(path)
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(21):
            archive.writestr(zipfile.ZipInfo(str(n)), b"")
    assert len(list_members(path)) == 21 and MAX_MEMBERS == 50_000
    monkeypatch.setattr("tlcnn.data.files.MAX_MEMBERS", 20)
    with pytest.raises(DataError, match="holds 21 members; at most 20 are read"):
        list_members(path)


def test_bombs_are_refused_before_they_are_decompressed(tmp_path):
    path = tmp_path / "a.zip"
    write_zip(path, [("a.png", bytes(30 * 2**20))])
    with pytest.raises(DataError, match=r"a\.png in .*a\.zip is refused: 30 MiB, at most 25"):
        list_members(path)
    write_zip(path, [("a.png", bytes(10 * 2**20))])
    with pytest.raises(DataError, match=r"decompression bomb: it grows 1,\d\d\d times"):
        list_members(path)
    write_zip(path, [("notes.csv", bytes(10 * 2**20))])  # no image: refused when it is read
    with pytest.raises(DataError, match="decompression bomb"):
        read_file(list_members(path)[0])


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    write_zip(path, [("a.png", bytes(10 * 2**20))])
    content = path.read_bytes().replace(struct.pack("<I", 10 * 2**20), struct.pack("<I", 1000))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read a\.png in .*CRC"):
        FileImages(list_members(path)).load(0)


def test_encrypted_and_rare_compressions_say_what_to_do(tmp_path):
    info = zipfile.ZipInfo("a.png")
    info.flag_bits = 1
    with pytest.raises(DataError, match="encrypted; unpack the archive yourself"):
        check_member(tmp_path, info)
    info.flag_bits, info.compress_type = 0, zipfile.ZIP_LZMA
    with pytest.raises(DataError, match="neither stored nor deflated"):
        check_member(tmp_path, info)


def test_a_broken_archive_is_named(zipped):
    content = zipped.read_bytes()
    zipped.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"images\.zip is not a readable zip archive"):
        list_members(zipped)
    zipped.write_bytes(content[:60] + bytes(40) + content[100:])  # in the first member's data
    with pytest.raises(DataError, match=r"inner/0\.png in .*images\.zip"):
        FileImages(list_members(zipped)).load(0)


def test_list_files_follows_links_and_ends_in_loops(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(b"1")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "real")
    assert [ref.name for ref in list_files(tmp_path / "root")] == ["a.png"]
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "second").symlink_to(tmp_path)
    assert [ref.name for ref in list_files(tmp_path / "root")] == ["a.png"] * 2


def test_reading_many_files_for_the_first_time_shows_a_bar(tmp_path, monkeypatch):
    """Nobody sees for seconds what the digests of a large dataset are computed for."""
    refs = []
    for number in range(130):
        path = tmp_path / f"{number}.png"
        path.write_bytes(bytes([number]))
        refs.append(FileRef(path, "", 1))
    shown = io.StringIO()
    seen = {"file": shown, "disable": False, "delay": 0, "mininterval": 0}
    monkeypatch.setattr(images_module, "tqdm", lambda **options: tqdm(**(options | seen)))
    digests = FileImages(refs).load_digests()
    assert digests == [hashlib.sha256(bytes([number])).hexdigest() for number in range(130)]
    assert "reading image files, once" in shown.getvalue() and "128/130" in shown.getvalue()
