"""Features are stored and read with their bits, type and strides, or not at all."""

import numpy as np
import pytest
import torch
from test_array_store import FullDisk, make_store, names

from tlcnn.data import array_store
from tlcnn.frozen.features import FeatureViews, FeatureWriter, make_rows, shape_rows

LAYOUTS = {
    "nchw": lambda n: torch.randn(n, 5, 4, 3),
    "nhwc": lambda n: torch.randn(n, 4, 3, 5).permute(0, 3, 1, 2),
    "pooled": lambda n: torch.randn(n, 8, 1, 1),
    "pooled nhwc": lambda n: torch.randn(n, 8, 1, 1).to(memory_format=torch.channels_last),
    "vector": lambda n: torch.randn(n, 7),
    "bf16": lambda n: torch.randn(n, 4, 3, 5).permute(0, 3, 1, 2).bfloat16(),
}
NAME = "0123456789abcdef-01"


def fill(store, tensor, batch=4):
    """Write features in batches of one size, of which the last overlaps the one before."""
    writer = FeatureWriter(store, NAME, len(tensor), batch)
    n_done = 0
    for start in [*range(0, len(tensor) - batch, batch), len(tensor) - batch]:
        writer.add(tensor[start : start + batch], n_repeated=n_done - start)
        n_done = start + batch
    return writer.finish()


def take(array, picked):
    return FeatureViews([array], torch.device("cpu")).feed([np.array(picked)]).make_batch(0)


def same(array, tensor):
    features = take(array, range(len(tensor)))
    return torch.equal(features, tensor) and features.dtype == tensor.dtype


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_batch_comes_back_with_its_bits_and_its_strides(kind):
    batch = LAYOUTS[kind](6)
    rows, layout = make_rows(batch)
    again = shape_rows(rows.clone(), layout)
    assert torch.equal(batch, again) and batch.stride() == again.stride()
    assert batch.dtype == again.dtype and rows.is_contiguous()


def test_what_has_gaps_or_is_no_list_of_images_is_not_stored(tmp_path, heard):
    batch = torch.randn(6, 5, 4)
    for odd in (batch[:, :, ::2], batch.permute(1, 0, 2), batch[:, :1].expand(6, 5, 4), batch[:1]):
        with pytest.raises(ValueError, match="has no rows"):
            make_rows(odd)
    assert fill(make_store(tmp_path), torch.randn(8, 5, 8)[:, :, ::2]) is None
    assert "computed every time" in heard.text and names(tmp_path) == []


@pytest.mark.parametrize("disk_mib", [10, 0], ids=["on disk", "in memory"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_features_are_found_again(tmp_path, kind, disk_mib):
    tensor, store = LAYOUTS[kind](22), make_store(tmp_path, disk_mib=disk_mib)
    stored = fill(store, tensor)
    array = (make_store(tmp_path) if disk_mib else store).find(NAME)
    assert same(stored, tensor) and same(array, tensor)
    assert take(array, [3, 1]).stride()[1:] == tensor.stride()[1:]
    assert array.digest == stored.digest and array.info["batch_size"] == 4


def test_batches_of_another_layout_are_not_stored_together(tmp_path, heard):
    writer = FeatureWriter(make_store(tmp_path), NAME, 8, 4)
    writer.add(torch.randn(4, 5, 2, 2))
    writer.add(torch.randn(4, 5, 2, 2).to(memory_format=torch.channels_last))
    assert writer.finish() is None and "differ in layout" in heard.text


def test_what_fits_nowhere_costs_a_warning(tmp_path, heard):
    store = make_store(tmp_path, disk_mib=0.1, memory_mib=0.1)
    assert fill(store, torch.randn(40, 2**11)) is None
    assert "fits neither" in heard.text and names(tmp_path) == []


@pytest.mark.parametrize("memory_mib", [10, 0])
def test_a_disk_that_fills_up_costs_a_warning(tmp_path, monkeypatch, heard, memory_mib):
    store = make_store(tmp_path, memory_mib=memory_mib)
    monkeypatch.setattr(array_store, "open_new", FullDisk(1000))
    tensor = torch.randn(22, 900)
    assert fill(store, tensor) is None and store.find(NAME) is None
    assert "arrays are no longer stored in" in heard.text and names(tmp_path) == []
    again = fill(store, tensor)  # the next time memory serves, if there is any
    assert (again is None) if memory_mib == 0 else same(again, tensor)
