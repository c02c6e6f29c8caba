"""`predict`: runs and images in, a table of probabilities and warnings out.

outputs of each network -> probabilities, averaged -> one row for each image -> pooled by group
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from tlcnn.data.depth import load_depth
from tlcnn.data.images import FULL_BITS, FileImages
from tlcnn.data.index import NOTHING
from tlcnn.data.policy import find_policy
from tlcnn.errors import ConfigError
from tlcnn.inference.calibration import Calibration, fit_calibration
from tlcnn.inference.familiar import (
    FAR,
    Distances,
    SeenImages,
    add_group_mates,
    find_seen,
    list_seen,
    load_distances,
)
from tlcnn.inference.image_list import ImageList, list_arrays_of, list_dataset, load_image_list
from tlcnn.inference.network import Network, load_all
from tlcnn.inference.outputs import Outputs, iter_outputs, list_parts
from tlcnn.inference.parts import PartStore
from tlcnn.memory import Memory
from tlcnn.statistics.predictions import compute_group_means
from tlcnn.text import find_bar_setting
from tlcnn.training.interrupt import catch_signals

log = logging.getLogger(__name__)

BROKEN = "cannot be decoded"
_FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {  # of training -> views; axes as in iter_outputs
    "mirror": ((), (2,)),
    "all": ((), (1,), (2,), (1, 2)),
}


@dataclass(frozen=True)
class Predictor:
    """All that turns outputs of networks into rows of a table.

    Attributes:
        networks: one, or an ensemble, whose probabilities are averaged.
        calibrations: one for each network.
        batch_size: images of a forward pass; None: those of each run's own evaluation.
        flips: the views that are averaged; see `iter_outputs`.
        seen: what the images are compared with; empty: nothing.
        distances: of the first network; None: not computed.
    """

    networks: Sequence[Network]
    calibrations: Sequence[Calibration]
    batch_size: int | None = None
    flips: Sequence[tuple[int, ...]] = ((),)
    seen: Sequence[SeenImages] = field(default=(), repr=False)
    distances: Distances | None = field(default=None, repr=False)

    def iter_frames(
        self,
        images: ImageList,
        parts: Sequence[np.ndarray],
        workers: int | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows of each part of the images."""
        for outputs in iter_outputs(
            self.networks,
            images,
            parts,
            batch_size=self.batch_size,
            flips=self.flips,
            at=None if self.distances is None else self.distances.unit,
            workers=workers,
            check_stop=check_stop,
        ):
            yield self.make_frame(images.pick(outputs.rows), outputs)

    def list_parts(self, n_images: int) -> list[np.ndarray]:
        """Return the positions of each part of some images."""
        sizes = [self.batch_size or n.run.config.eval_batch_size for n in self.networks]
        return list_parts(n_images, *sizes)

    def make_frame(self, images: ImageList, outputs: Outputs) -> pd.DataFrame:
        """Return one row for each image, as `predict` does, without groups.

        A column `kinds` has the list of the kinds of its warnings.
        """
        classes, task = self.networks[0].classes, self.calibrations[0].task
        views = [
            calibration.compute(logits.reshape(-1, len(classes))).reshape(logits.shape)
            for calibration, logits in zip(self.calibrations, outputs.logits, strict=True)
        ]
        probabilities = np.concatenate(views).mean(axis=0)  # (n, K)
        frame = images.table.astype(str)
        frame["class"] = name_classes(probabilities, classes, task)
        columns = {f"probability/{c}": probabilities[:, k] for k, c in enumerate(classes)}
        if len(views) == 1 and len(self.flips) == 1:
            columns |= {f"logit/{c}": outputs.logits[0][0, :, k] for k, c in enumerate(classes)}
        frame = pd.concat([frame, pd.DataFrame(columns)], axis=1)
        warnings: list[dict[str, str]] = [{} for _ in range(len(frame))]  # warning -> kind
        if self.seen:
            warnings = find_seen(images, outputs.pixels, self.seen, self.networks[0])
        if self.distances is not None:
            distance = self.distances.measure(outputs.features[0])
            distance[list(outputs.bad)] = np.nan
            frame["distance"] = distance
            for row in np.flatnonzero(distance > 1).tolist():
                warnings[row][FAR] = FAR
        for row, why in outputs.bad.items():
            warnings[row] = {f"{BROKEN}: {why}": BROKEN}
        frame["warnings"] = ["; ".join(kinds) for kinds in warnings]
        frame["kinds"] = [list(dict.fromkeys(kinds.values())) for kinds in warnings]
        return frame


def name_classes(probabilities: np.ndarray, classes: Sequence[str], task: str) -> list[str]:
    """Return the most probable class of each row, or the findings of at least 0.5.

    Example:
        >>> name_classes(np.array([[0.2, 0.8], [0.6, 0.7]]), ["a", "b"], "multi-label")
        ['b', 'a + b']
    """
    if task == "multi-label":
        findings = [
            [c for c, p in zip(classes, row, strict=True) if p >= 0.5] for row in probabilities
        ]
        texts = [" + ".join(names) or NOTHING for names in findings]
    else:
        texts = [classes[k] for k in np.nan_to_num(probabilities).argmax(axis=1)]
    is_defined = np.isfinite(probabilities).all(axis=1)
    return [text if ok else "" for text, ok in zip(texts, is_defined, strict=True)]


def pool_groups(frame: pd.DataFrame, classes: Sequence[str], task: str) -> pd.DataFrame:
    """Return predictions with the mean probabilities of each image's group, where some has two.

    Images that cannot be decoded count in no mean.
    """
    if "group" not in frame or not frame["group"].duplicated().any():
        return frame
    probabilities = frame[[f"probability/{c}" for c in classes]].to_numpy()
    groups = frame["group"].to_numpy().astype(str)
    is_defined = np.isfinite(probabilities).all(axis=1)
    pooled = np.full(probabilities.shape, np.nan)
    if is_defined.any():
        labels = np.zeros(is_defined.sum(), dtype=np.int64)
        means, _ = compute_group_means(probabilities[is_defined], labels, groups[is_defined])
        names = np.unique(groups[is_defined])
        place = np.minimum(np.searchsorted(names, groups), len(names) - 1)
        pooled = np.where((names[place] == groups)[:, None], means[place], np.nan)
    at = frame.columns.get_loc("warnings")
    columns: dict[str, Any] = {"group_class": name_classes(pooled, classes, task)}
    columns |= {f"group_probability/{c}": pooled[:, k] for k, c in enumerate(classes)}
    return pd.concat([frame.iloc[:, :at], pd.DataFrame(columns), frame.iloc[:, at:]], axis=1)


def find_flips(networks: Sequence[Network]) -> list[tuple[int, ...]]:
    """Return the views, as in `iter_outputs`, that the training of every network showed.

    Raises:
        ConfigError: one has seen no flipped images.
    """
    flips = list(_FLIPS["all"])
    for network in networks:
        augment = network.run.config.train.augment
        turned = find_policy(augment).dihedral
        if turned not in _FLIPS:
            raise ConfigError(
                f"the run {network.run.folder.name} has seen no flipped images "
                f"(train.augment={augment}), so they cannot be averaged over. Leave out --tta"
            )
        flips = [view for view in flips if view in _FLIPS[turned]]
    return flips


def build_predictor(
    networks: Sequence[Network],
    *,
    tta: bool = False,
    calibrated: bool = False,
    checks: bool = True,
    batch_size: int | None = None,
) -> Predictor:
    """Prepare some networks for images; see `predict`."""
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"a batch size of {batch_size} is not allowed: at least 1")
    task = networks[0].record.task or "multi-class"
    return Predictor(
        networks,
        [fit_calibration(n.run) if calibrated else Calibration(task) for n in networks],
        batch_size,
        find_flips(networks) if tta else ((),),
        list_seen(networks) if checks else (),
        load_distances(networks[0]) if checks else None,
    )


def find_image_list(images: Any, network: Network, *, split: str | None = None) -> ImageList:
    """Return the images that `predict` was asked for; see there."""
    if images is None:
        return list_dataset(network.run.dataset(), split or "test")
    if isinstance(images, ImageList):
        return images
    if isinstance(images, (str, Path)):
        images = [images]
    if len(images) and all(isinstance(image, (str, Path)) for image in images):
        return load_image_list(images, cache_dir=network.run.cache_dir, split=split)
    return list_arrays_of(images)


def predict(
    runs: Any,
    images: Any = None,
    *,
    split: str | None = None,
    tta: bool = False,
    calibrated: bool = False,
    checks: bool = True,
    batch_size: int | None = None,
    device: str = "auto",
    root: str | Path | None = None,
    output: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Return what a run, or the mean over several runs, predicts for some images.

    Args:
        runs: a run as `load` takes it, or several runs with the same classes.
        images: a folder, a file or several, a table (.csv), an .npz file, words such as
            `["dataset=ham10000"]`, an array (N, H, W, 3) uint8, or images of Pillow; None: the
            run's own images of `split`, which is then `test` by default.
        split: train, val or test of a dataset; None: all of its images.
        tta: average over the flips that the training of every run showed.
        calibrated: divide logits by the temperature that fits the run's validation images best,
            and undo what class weights did.
        checks: whether to look for images that were used in training, and for those far from it.
        batch_size: images of a forward pass; None: that of each run's own evaluation, which gives
            its bits.
        device: auto, cpu, cuda or mps.
        root: the folder of the runs' own images, where they are no longer where they were read.
        output: a .csv or .parquet file. It is written in parts, so that the same call goes on
            where an earlier one was interrupted.

    Returns:
        One row for each image: image_id, `group`, `split` and `label` where they are recorded,
        class, `probability/CLASS`, `logit/CLASS` of a single run without flips, `group_class` and
        `group_probability/CLASS` where groups have several images, distance, and warnings.
        `attrs["warned"]` has the ids of the images with each kind of warning.

    Raises:
        ConfigError: runs with other classes, or an option that does not fit them.
        DataError: runs or images that cannot be read; an image that cannot be decoded has a
            warning and no class.
        Stopped: a signal came; with `output` the same call goes on.
    """
    networks = load_all(runs, device=device, root=root, memory=Memory())
    image_list = find_image_list(images, networks[0], split=split)
    options = {"tta": tta, "calibrated": calibrated, "checks": checks, "batch_size": batch_size}
    store = PartStore.open(output, networks, image_list, options)
    if store.is_done:
        return store.read()
    predictor = build_predictor(networks, **options)  # type: ignore[arg-type]
    if checks:
        warn_of_depth(networks, image_list)
    with catch_signals() as stop, store.hold(stop.check):
        if store.is_done:  # the process that was waited for has written it
            return store.read()
        return _compute_parts(predictor, image_list, store, workers, progress, stop.check)


def warn_of_depth(networks: Sequence[Network], images: ImageList) -> None:
    """Log where 16-bit images have another range than the images of a run's training.

    A run divides 16-bit grey images by what its own images needed.
    """
    if not isinstance(images.images, FileImages):
        return
    cache_dir = networks[0].run.cache_dir
    depth = load_depth(images.images, images.images.signature(), cache_dir)
    if depth.is_narrow_colour:
        log.warning("%s", depth.describe_colour())
    if depth.n_inverted:
        log.warning("%s", depth.describe_inverted())
    for network in networks:
        bits = network.stored_form[-1]
        if depth.bits < FULL_BITS == bits or (depth.n_grey and depth.bits > bits):
            log.warning(
                "bit depth: %s reads 16-bit images by %d bits, as in its training, and these use "
                "%d: they become %s. Give images of the same range",
                network.run.folder.name,
                bits,
                depth.bits,
                "nearly black" if depth.bits < bits else "white where they are bright",
            )


def _compute_parts(
    predictor: Predictor,
    images: ImageList,
    store: PartStore,
    workers: int | None,
    progress: bool,
    check_stop: Callable[[], None],
) -> pd.DataFrame:
    """Compute and store the parts that are missing, and return all rows with their groups."""
    parts = predictor.list_parts(len(images))
    missing = [number for number in range(len(parts)) if not store.has(number)]
    todo = [parts[number] for number in missing]
    bar = tqdm(
        total=len(images),
        initial=len(images) - sum(map(len, todo)),
        desc="predicting",
        unit="image",
        disable=find_bar_setting(progress),
    )
    with bar:
        computed = predictor.iter_frames(images, todo, workers, check_stop)
        for number, frame in zip(missing, computed, strict=True):
            store.write(number, frame)
            bar.update(len(frame))
    frames = [store.load(n) for n in range(len(parts))]
    whole = add_group_mates(pd.concat(frames, ignore_index=True))
    warned: dict[str, list[str]] = {}
    for image_id, kinds in zip(whole["image_id"], whole.pop("kinds"), strict=True):
        for kind in kinds:
            warned.setdefault(kind, []).append(image_id)
    classes, task = predictor.networks[0].classes, predictor.calibrations[0].task
    return store.finish(pool_groups(whole, classes, task), warned)
