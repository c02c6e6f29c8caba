"""DICOM files look as a viewer shows them."""

import builtins
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from tlcnn.data.datasets import load_index
from tlcnn.data.images import decode_image
from tlcnn.errors import DataError


def encode(pixels, **tags):
    """Return a DICOM file of grey or RGB pixels."""
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    file.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    file.Rows, file.Columns = pixels.shape[:2]
    file.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    file.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        file.PlanarConfiguration = 0
    file.BitsAllocated = 8 * pixels.itemsize
    file.BitsStored, file.HighBit = file.BitsAllocated, file.BitsAllocated - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(file, name, value)
    file.PixelData = pixels.tobytes()
    content = BytesIO()
    file.save_as(content, enforce_file_format=True)
    return content.getvalue()


def grey(content):
    pixels = decode_image(content, "a.dcm")
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3 and pixels.flags.writeable
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


def test_stored_bits_are_the_range_without_a_window():
    values = np.array([[0, 1024, 4095]], np.uint16)
    assert grey(encode(values, BitsStored=12, HighBit=11)) == [0, 64, 255]
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    assert grey(encode(values, BitsStored=12, HighBit=11, **inverted)) == [255, 191, 0]
    signed = np.array([[-2048, 0, 2047]], np.int16)
    assert grey(encode(signed, BitsStored=12, HighBit=11)) == [0, 128, 255]


def test_a_window_is_applied_to_rescaled_values():
    stored = np.array([[0, 1024 + 40 - 200, 1024 + 40, 1024 + 40 + 200, 4000]], np.uint16)
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowWidth": 400, "WindowCenter": 40}
    shown = grey(encode(stored, **tags))
    assert shown == [0, 0, 128, 255, 255]
    assert grey(encode(stored, **tags, VOILUTFunction="LINEAR_EXACT")) == [0, 0, 128, 255, 255]
    sigmoid = grey(encode(stored, **tags, VOILUTFunction="SIGMOID"))
    assert sigmoid[1:4] == [30, 128, 225]
    several = tags | {"WindowWidth": [400, 80], "WindowCenter": [40, 40]}
    assert grey(encode(stored, **several)) == shown


@pytest.mark.parametrize(
    "window", [(None, None), (float("nan"), 400), ([], []), (40, 0), (40, None)], ids=str
)
def test_an_empty_window_is_none(window):
    stored = np.array([[0, 1024, 4095]], np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 1, "RescaleIntercept": -1024}
    content = encode(stored, **tags, WindowCenter=window[0], WindowWidth=window[1])
    assert grey(content) == [0, 64, 255]


def test_a_palette_beyond_its_bits_does_not_wrap():
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [4, 0, 8]
        entries = np.array([0, 100, 255, 300], np.uint16)
        tags[f"{colour}PaletteColorLookupTableData"] = entries.tobytes()
    assert grey(encode(np.array([[0, 1, 2, 3]], np.uint8), **tags)) == [0, 100, 255, 255]


def test_of_several_frames_the_first_is_shown():
    frames = np.array([[0, 65535], [65535, 0]], np.uint16)  # of one row each
    assert grey(encode(frames, Rows=1, NumberOfFrames=2)) == [0, 255]


def test_a_dicom_file_is_known_by_its_content():
    content = encode(np.array([[0, 65535]], np.uint16))
    assert (decode_image(content, "ct.jpg") == decode_image(content, "a.dcm")).all()
    with pytest.raises(DataError, match=r"ct\.jpg is a DICOM file that cannot be read"):
        decode_image(content[:-2], "ct.jpg")


def test_colours():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert (decode_image(encode(pixels), "a.dcm") == pixels).all()


def test_defects_are_named(monkeypatch):
    content = encode(np.zeros((2, 2), np.uint16))
    with pytest.raises(DataError, match=r"a\.dcm is a DICOM file that cannot be read"):
        decode_image(content[:-6], "a.dcm")
    with pytest.raises(DataError, match=r"a\.dcm is refused: 9000 x 9000 pixels"):
        decode_image(encode(np.zeros((2, 2), np.uint16), Rows=9000, Columns=9000), "a.dcm")
    real = builtins.__import__

    def lack_pydicom(name, *rest):
        if name.startswith("pydicom"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lack_pydicom)
    with pytest.raises(DataError, match=r"pip install 'tlcnn\[dicom\]'"):
        decode_image(content, "a.dcm")


def test_a_folder_of_dicom_files_is_read_and_those_beside_images_are_left_out(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        content = encode(np.full((4, 4), 65535 if label == "a" else 0, np.uint16))
        (tmp_path / label / "1.dcm").write_bytes(content)
    index = load_index("folder", name="ct", root=tmp_path, options={})
    assert index.table["image_id"].tolist() == ["a/1.dcm", "b/1.dcm"] and not index.notes
    assert index.images.load(0)[0, 0, 0] == 255
    (tmp_path / "labels.csv").write_text("image,label\na/1,x\nb/1,y\n")
    assert len(load_index("table", name="ct", root=tmp_path, options={})) == 2
    for label in "ab":
        Image.new("RGB", (4, 4)).save(tmp_path / label / "2.png")
    index = load_index("folder", name="ct", root=tmp_path, options={})
    assert index.table["image_id"].tolist() == ["a/2.png", "b/2.png"]
    assert index.notes == ("left out 2 files that are not read (.dcm 2)",)
    index = load_index("table", name="ct", root=tmp_path, options={})
    assert index.table["image_id"].tolist() == ["a/1.dcm", "b/1.dcm"]  # as the table says
