"""A view is a pure function of (view number, image); the geometry and colours are as declared."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tlcnn.data import augment
from tlcnn.data.augment import (
    PARAMS,
    apply_augment,
    draw_params,
    make_eval_batch,
    make_image_keys,
    make_image_tensor,
    mix,
    view_numbers,
)
from tlcnn.data.policy import AUGMENTS, Policy, find_policy
from tlcnn.errors import ConfigError

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and standard deviation
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CHANGING = [name for name in AUGMENTS if name != "none"]


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (33, 36, 36, 3), dtype=torch.uint8, generator=seeded())


def seeded():
    return torch.Generator().manual_seed(0)


def keys_of(n):
    return make_image_keys([f"ISIC_{i}" for i in range(n)])


def see(images, keys, policy, view=0, scaling=IMAGENET, image_size=32):
    params = torch.from_numpy(draw_params(np.full(len(keys), view, np.uint64), keys, policy))
    return apply_augment(images, params, policy, image_size=image_size, scaling=scaling)


# ---- purity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_view_is_the_same_in_any_batch(images, name):
    policy, keys = AUGMENTS[name], keys_of(33)
    whole = see(images, keys, policy)
    order = np.random.default_rng(0).permutation(33)
    shuffled = see(images[order], keys[order], policy)
    assert torch.equal(shuffled, whole[order])
    for size in (1, 7):
        parts = [see(images[i : i + size], keys[i : i + size], policy) for i in range(0, 33, size)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_view_is_the_same_with_more_threads(images, name):
    before = torch.get_num_threads()
    try:
        views = []
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            views.append(see(images, keys_of(33), AUGMENTS[name]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(views[0], views[1]) and torch.equal(views[0], views[2])


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_view_is_the_same_whatever_part_it_is_made_in(images, name, monkeypatch):
    whole = see(images, keys_of(33), AUGMENTS[name])
    for pixels in (1, 5 * 32**2, 10**9):
        monkeypatch.setattr(augment, "PART_PIXELS", pixels)
        assert torch.equal(see(images, keys_of(33), AUGMENTS[name]), whole)


@pytest.mark.parametrize("name", ["standard", "strong", "upright"])
def test_a_view_is_the_same_in_a_batch_of_any_size(name):
    """Of the matrix products, too, which a library may compute in another way for other shapes."""
    policy, keys = AUGMENTS[name], keys_of(130)
    images = torch.randint(0, 256, (130, 18, 18, 3), dtype=torch.uint8, generator=seeded())
    whole = see(images, keys, policy, image_size=16)
    for n in range(1, 131):
        start = (37 * n) % (131 - n)
        some = slice(start, start + n)
        assert torch.equal(see(images[some], keys[some], policy, image_size=16), whole[some]), n


def test_views_are_the_same_in_inference_mode(images):
    """And what was lent to one mode serves the other."""
    policy, keys = AUGMENTS["standard"], keys_of(33)
    before = torch.get_num_threads()
    try:
        for n_threads in (2, 1):
            torch.set_num_threads(n_threads)
            with torch.inference_mode():
                inference = see(images, keys, policy)
            assert inference.is_inference()
            plain = see(images, keys, policy)
            assert torch.equal(plain, inference) and not plain.is_inference()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["standard", "strong", "upright"])
def test_a_view_is_what_the_plain_operations_make(images, name):
    """In float64, with grid_sample's own reflection, and colours one after another."""
    policy, keys = AUGMENTS[name], keys_of(33)
    params = torch.from_numpy(draw_params(np.zeros(33, np.uint64), keys, policy)).double()
    column = {column: params[:, i, None, None] for i, column in enumerate(PARAMS)}
    y, x = torch.meshgrid(*[torch.arange(32.0).double() - 15.5] * 2, indexing="ij")
    grid = torch.stack(
        [
            (column[f"{axis}y"] * y + column[f"{axis}x"] * x) / 18
            + (column[f"shift_{axis}"] * 2 - 1) / 9
            for axis in "xy"
        ],
        dim=-1,
    )
    assert grid.abs().max() > 1
    pixels = images.permute(0, 3, 1, 2).double() / 255
    views = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    assert torch.allclose(see(images, keys, policy).double(), colour(views, params), atol=1e-4)


def colour(x, params):
    """Return (N, 3, H, W) of 0 to 1 as the policy's parameters would have it, normalised."""
    light, contrast, saturation = params[:, 7:10], params[:, 10:11], params[:, 11:12]
    mean, std = (torch.tensor(values).double().view(3, 1, 1) for values in IMAGENET)
    luma = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    s = saturation[:, :, None, None]
    x = s * x + (1 - s) * luma
    x = contrast[:, :, None, None] * (x - mean) + mean
    return (x * light[:, :, None, None] - mean) / std


def test_views_are_the_same_on_every_machine():
    """Goldens of what is exact arithmetic: changed pixels would silently change every run."""
    array = np.arange(4 * 36 * 36 * 3, dtype=np.int64) * 2654435761 % 251
    image = torch.from_numpy(array.astype(np.uint8).reshape(4, 36, 36, 3))
    for name, golden in GOLDEN_VIEWS.items():
        views = see(image, keys_of(4), AUGMENTS[name]).contiguous()
        assert hashlib.sha256(views.numpy().tobytes()).hexdigest()[:16] == golden


@pytest.mark.parametrize("name", CHANGING)
def test_views_and_images_differ(images, name):
    same = images[:1].expand(33, -1, -1, -1)
    views = see(same, keys_of(33), AUGMENTS[name])
    assert len({view.numpy().tobytes() for view in views}) > 25
    assert not torch.equal(views, see(same, keys_of(33), AUGMENTS[name], view=1))


def test_images_are_not_changed(images):
    copy = images.clone()
    for policy in AUGMENTS.values():
        see(images, keys_of(33), policy)
    assert torch.equal(images, copy)


def test_values_are_the_same_on_every_machine():
    """Goldens: a changed hash would silently change every run."""
    assert make_image_keys(["ISIC_0027419"]).tolist() == [GOLDEN_KEY]
    assert int(mix(np.uint64(1), 2, 3)) == GOLDEN_MIX
    params = draw_params(np.array([5], np.uint64), keys_of(1), AUGMENTS["strong"])
    assert params[0] == pytest.approx(GOLDEN_PARAMS, abs=1e-6)


GOLDEN_VIEWS = {"none": "27d1f9240327f4f1", "light": "cad65b84b9a194cf"}
GOLDEN_KEY = 13864202471657129860
GOLDEN_MIX = 105800997263431414
GOLDEN_PARAMS = [
    *(0.0669904, 0.7491908, -0.8036422, 0.0718592),
    *(0.2849757, 0.4474636),
    5.0,
    *(1.0860786, 1.1859834, 1.1326244),
    *(1.0275306, 0.9206929),
]


# ---- view numbers -------------------------------------------------------------------------------


def test_without_a_pool_every_seed_and_epoch_is_a_view_of_its_own():
    keys = keys_of(5)
    seen = {
        tuple(view_numbers(keys, seed=seed, epoch=epoch, n_views=None).tolist())
        for seed in range(20)
        for epoch in range(20)
    }
    assert len(seen) == 400 and all(len(set(numbers)) == 1 for numbers in seen)


def test_a_pool_is_used_evenly_and_independently():
    keys = keys_of(4000)
    first = view_numbers(keys, seed=0, epoch=1, n_views=8)
    second = view_numbers(keys, seed=0, epoch=2, n_views=8)
    assert np.bincount(first.astype(int), minlength=8).max() < 600
    assert (first == second).mean() == pytest.approx(1 / 8, abs=0.03)
    assert set(view_numbers(keys, seed=3, epoch=9, n_views=1)) == {0}


@given(st.integers(0, 2**31 - 1), st.integers(0, 1000), st.integers(0, 32))
@settings(max_examples=30, deadline=None)
def test_view_numbers_ignore_the_batch(seed, epoch, position):
    keys = keys_of(33)
    for n_views in (None, 5):
        whole = view_numbers(keys, seed=seed, epoch=epoch, n_views=n_views)
        one = view_numbers(keys[position:][:1], seed=seed, epoch=epoch, n_views=n_views)
        assert one[0] == whole[position]


# ---- parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AUGMENTS)
def test_parameters_fill_their_ranges(name):
    policy = AUGMENTS[name]
    keys = keys_of(4000)
    drawn = draw_params(np.zeros(4000, np.uint64), keys, policy)
    assert drawn.shape == (4000, len(PARAMS)) and drawn.dtype == np.float32
    params = dict(zip(PARAMS, drawn.T, strict=True))
    area = np.abs(params["yy"] * params["xx"] - params["yx"] * params["xy"])
    magnification = 1 / np.sqrt(area)
    assert magnification.min() == pytest.approx(policy.scale[0], abs=0.01)
    assert magnification.max() == pytest.approx(policy.scale[1], abs=0.01)
    n_turns = {"none": 1, "mirror": 2, "all": 8}[policy.dihedral]
    assert np.unique(params["dihedral"]).tolist() == list(range(n_turns))
    assert np.ptp(params["shift_x"]) == pytest.approx(1.0 if policy.shift else 0.0, abs=0.01)
    assert np.ptp(params["contrast"]) == pytest.approx(2 * policy.contrast, abs=0.01)
    if policy.shift:
        assert abs(np.corrcoef(params["shift_x"], params["shift_y"])[0, 1]) < 0.06


def test_rotation_angles_fill_their_range():
    policy = Policy(rotate=30.0)
    params = draw_params(np.zeros(4000, np.uint64), keys_of(4000), policy)
    angles = np.degrees(np.arctan2(params[:, 2], params[:, 0]))
    assert angles.min() == pytest.approx(-30, abs=0.2)
    assert angles.max() == pytest.approx(30, abs=0.2)


# ---- pixels -------------------------------------------------------------------------------------


def test_none_is_the_normalised_centre_crop(images):
    views = see(images, keys_of(33), AUGMENTS["none"])
    centre = images[:, 2:34, 2:34].permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    assert torch.allclose(views.double(), (centre - mean) / std, atol=1e-5)
    assert torch.equal(views, make_eval_batch(images, image_size=32, scaling=IMAGENET))


def test_outputs_are_channels_last_float32(images):
    for policy in AUGMENTS.values():
        views = see(images, keys_of(33), policy)
        assert views.dtype == torch.float32 and views.shape == (33, 3, 32, 32)
        assert views.is_contiguous(memory_format=torch.channels_last)


def test_light_is_a_crop_flipped_or_turned_exactly(images):
    keys, policy = keys_of(33), AUGMENTS["light"]
    params = draw_params(np.zeros(33, np.uint64), keys, policy)
    views = (see(images, keys, policy, scaling=PLAIN) * 255).round().to(torch.uint8)
    for image, view, row in zip(images, views, params, strict=True):
        shift_y, shift_x, code = (row[PARAMS.index(n)] for n in ("shift_y", "shift_x", "dihedral"))
        y, x = int(shift_y * 5), int(shift_x * 5)
        crop = image[y : y + 32, x : x + 32].permute(2, 0, 1)
        crop = crop.flip(2) if int(code) & 1 else crop
        crop = crop.flip(1) if int(code) & 2 else crop
        crop = crop.transpose(1, 2) if int(code) & 4 else crop
        assert torch.equal(view, crop)


def test_resampling_agrees_with_the_exact_path(images):
    """A warp that neither scales nor rotates, at whole-pixel shifts, is the light policy."""
    keys, light = keys_of(33), AUGMENTS["light"]
    barely = dataclasses.replace(light, rotate=1e-9)
    params = torch.from_numpy(draw_params(np.zeros(33, np.uint64), keys, light))
    for axis in ("shift_y", "shift_x"):
        column = PARAMS.index(axis)
        params[:, column] = (params[:, column] * 5).floor() / 4  # 0, 1/4 .. 1 of 4 pixels
    exact = params.clone()
    exact[:, 4:6] = (exact[:, 4:6] * 4 + 0.5) / 5  # the middle of the same whole shift
    warped = apply_augment(images, params, barely, image_size=32, scaling=IMAGENET)
    cropped = apply_augment(images, exact, light, image_size=32, scaling=IMAGENET)
    assert torch.allclose(warped, cropped, atol=2e-3)


def test_magnification_and_rotation_move_points_where_they_should():
    image = torch.zeros(1, 73, 73, 3, dtype=torch.uint8)
    image[0, 36, 36 + 10] = 255  # a dot ten pixels right of the centre
    for policy, expected in (
        (Policy(scale=(2.0, 2.0)), 20 + 0j),
        (Policy(scale=(2.0, 2.0), dihedral="mirror"), None),
        (Policy(rotate=40.0), None),
    ):
        params = draw_params(np.zeros(1, np.uint64), keys_of(1), policy)
        view = apply_augment(
            image, torch.from_numpy(params), policy, image_size=65, scaling=PLAIN
        )[0, 0]
        view = view / view.sum()
        offset = torch.arange(65.0) - 32
        found = complex((view.sum(0) * offset).sum(), (view.sum(1) * offset).sum())
        matrix = params[0, :4].reshape(2, 2)
        y, x = np.linalg.solve(matrix, [0.0, 10.0])
        assert found == pytest.approx(complex(x, y), abs=0.05)
        assert expected is None or found == pytest.approx(expected, abs=0.05)


def test_corners_are_mirrored_not_black():
    image = torch.full((8, 36, 36, 3), 200, dtype=torch.uint8)
    policy = Policy(rotate=45.0, scale=(0.5, 0.5), shift=True)
    views = see(image, keys_of(8), policy, scaling=PLAIN)
    assert torch.allclose(views, torch.tensor(200 / 255), atol=1e-5)


def test_colours_follow_the_written_formula(images):
    policy = Policy(brightness=0.3, contrast=0.3, saturation=0.3, tint=0.1)
    keys = keys_of(33)
    params = torch.from_numpy(draw_params(np.zeros(33, np.uint64), keys, policy)).double()
    x = images[:, 2:34, 2:34].permute(0, 3, 1, 2).double() / 255
    views = see(images, keys, policy)
    assert torch.allclose(views.double(), colour(x, params), atol=1e-4)


@pytest.mark.parametrize("name", CHANGING)
def test_no_view_reaches_beyond_one_mirror_image(name):
    """What is mirrored is mirrored once: farther out there would be stripes."""
    keys = keys_of(2000)
    params = draw_params(np.zeros(2000, np.uint64), keys, AUGMENTS[name])
    matrix = np.abs(params[:, :4].reshape(-1, 2, 2)).sum(axis=2).max()
    assert matrix * 64 / 64 < 3  # the stored image spans -1 to 1, and is no smaller than the view


@pytest.mark.parametrize(("size", "stored"), [(32, 32), (31, 36), (28, 33), (1, 4)])
def test_any_margin_works(size, stored):
    image = torch.full((4, stored, stored, 3), 7, dtype=torch.uint8)
    for policy in AUGMENTS.values():
        views = see(image, keys_of(4), policy, image_size=size)
        assert views.shape == (4, 3, size, size) and torch.isfinite(views).all()


def test_unknown_policy_is_refused_with_the_allowed_ones():
    with pytest.raises(ConfigError, match="(?s)Did you mean 'strong'.*none, light, standard"):
        find_policy("stron")


def test_image_tensor_shares_a_read_only_map(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3))
    array = np.load(tmp_path / "a.npy", mmap_mode="r")
    tensor = make_image_tensor(array)
    assert tensor.sum() == array.sum()
    assert tensor.data_ptr() == array.__array_interface__["data"][0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", AUGMENTS)
def test_cuda_views_are_pure_and_close_to_the_cpu(images, name):
    policy, keys = AUGMENTS[name], keys_of(33)
    params = torch.from_numpy(draw_params(np.zeros(33, np.uint64), keys, policy)).cuda()
    on_gpu = [
        apply_augment(images[i:j].cuda(), params[i:j], policy, image_size=32, scaling=IMAGENET)
        for i, j in ((0, 33), (0, 10), (10, 33))
    ]
    assert torch.equal(on_gpu[0], torch.cat(on_gpu[1:]))
    assert torch.allclose(on_gpu[0].cpu(), see(images, keys, policy), atol=1e-3)
