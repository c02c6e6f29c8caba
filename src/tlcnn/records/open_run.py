"""Back from a run folder to its network, weights, images, splits and transform.

    open_run(folder) -> OpenRun -> model() -> images("test") -> the logits in predictions.parquet

torch is imported when a network or images are asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tlcnn.config.schema import Config, find_cache_dir
from tlcnn.data.dataset import Dataset, recall_dataset
from tlcnn.data.images import FULL_BITS
from tlcnn.data.index import SPLITS
from tlcnn.errors import ConfigError, DataError, StorageError, WeightsError
from tlcnn.memory import Memory
from tlcnn.model.load_units import load_unit_map
from tlcnn.model.unit_map import UnitMap
from tlcnn.records.config import read_config
from tlcnn.records.plan_record import PlanRecord, read_plan
from tlcnn.records.read import read_predictions
from tlcnn.records.weights import load_run_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tlcnn.data.batches import Batches


@dataclass(frozen=True)
class OpenRun:
    """A run that was read from its folder. Images and networks are loaded when asked for.

    Attributes:
        record: the content of plan.json.
        config: the run's configuration; its `dataset.root` is the folder of the images.
        cache_dir: the folder of decoded images, digests and unit maps.
    """

    folder: Path
    record: PlanRecord
    config: Config
    cache_dir: Path
    _memory: Memory = field(default_factory=Memory, repr=False, compare=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The K names of the classes, in the order of the logits."""
        return self.record.classes

    def unit_map(self) -> UnitMap:
        """Return the units of the run's network; without those that it has dropped."""
        name, granularity = self.config.model.name, self.config.model.granularity
        unit_map = load_unit_map(name, granularity=granularity, cache_dir=self.cache_dir)
        return unit_map.truncate(len(self.record.units) or len(unit_map))

    def model(self, device: str = "cpu") -> "nn.Module":
        """Return a new network with the run's weights, in evaluation mode.

        Raises:
            WeightsError: the weights are missing, are not what the run wrote, or do not fit the
                network as this version of timm builds it.
        """
        import torch

        from tlcnn.model.build import build_model
        from tlcnn.model.truncate import truncate_network

        state = load_run_weights(self.folder)
        cfg = self.config.model
        model = build_model(
            cfg.name,
            n_classes=len(self.classes),
            seed=0,
            drop_rate=cfg.drop_rate,
            drop_path_rate=cfg.drop_path_rate,
        )
        truncate_network(model, self.unit_map(), seed=0)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(
                f"the weights of {self.folder.name} do not fit {cfg.name} as this version of timm "
                "builds it: install the version that environment.json names"
            ) from error
        if self.config.train.channels_last:  # decides the last bits of the outputs
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.to(device).eval()

    def dataset(self) -> Dataset:
        """Return the run's images and splits: index, split and digest of every image.

        Raises:
            DataError: the images are not where the run read them, or are not the same any more.
        """
        cfg = self.config.dataset
        advice = (
            f"open_run needs the images that {self.folder.name} was trained on. If they have "
            "moved, give their folder: open_run(FOLDER, root=IMAGES)"
        )
        try:
            dataset = recall_dataset(cfg, self.cache_dir, self._memory)
        except (DataError, ConfigError, StorageError) as error:
            raise DataError(f"{error}\n{advice}") from error
        if dataset.manifest != self.record.manifest:
            raise DataError(
                f"the images or labels of {cfg.name} have changed since the run: their manifest "
                f"is {dataset.manifest[:12]} and was {self.record.manifest[:12]}.\n{advice}"
            )
        return dataset.read_with(self.record.identity["dataset"].get("bits", FULL_BITS))

    def batches(self, split: str, device: str = "cpu") -> "Batches":
        """Return the images of a split, decoded, resized and normalised as in the run.

        Raises:
            DataError: see `dataset`; or the split is not `train`, `val` or `test`.
        """
        from tlcnn.data.batches import load_batches

        if split not in SPLITS:
            raise DataError(f"there is no split {split}: {', '.join(SPLITS)}")
        return load_batches(
            self.config.dataset,
            self.dataset(),
            self._memory,
            device=device,
            cache_dir=self.cache_dir,
            workers=self.config.workers,
            progress=False,
        )[split]

    def images(self, split: str, device: str = "cpu") -> "Iterator[torch.Tensor]":
        """Yield a split's images as the network saw them in evaluation, (B, 3, H, W) float32.

        Their order is that of `rows` in `batches(split)` and of predictions.parquet. The batches
        are those of the run's own evaluation, whose size can change the last bits of a logit.
        """
        from tlcnn.data.batches import iter_plain

        return iter_plain(self.batches(split, device), self.config.eval_batch_size)

    def transform(self, image: np.ndarray) -> "torch.Tensor":
        """Return one image as the network sees it in evaluation, (3, H, W) float32.

        Args:
            image: (H, W, 3) uint8 of any size, decoded in full.
        """
        import torch

        from tlcnn.data.augment import make_eval_batch
        from tlcnn.data.cache import stored_size
        from tlcnn.data.policy import NORMALIZE
        from tlcnn.data.resize import resize_image

        cfg = self.config.dataset
        stored = resize_image(image, stored_size(cfg.image_size), cfg.fit)
        batch = torch.from_numpy(stored.copy())[None]
        scaling = NORMALIZE[cfg.normalize]
        return make_eval_batch(batch, image_size=cfg.image_size, scaling=scaling)[0]

    def compute_logits(self, split: str, device: str = "cpu") -> np.ndarray:
        """Return the network's logits of a split, (n, K) float32, in the run's own precision.

        On the machine of the run, with its number of threads, they are those of
        predictions.parquet to the last bit.
        """
        from tlcnn.training.evaluate import compute_logits

        return compute_logits(
            self.model(device),
            self.batches(split, device),
            batch_size=self.config.eval_batch_size,
            precision=self.record.precision,
        )

    def predictions(self) -> pd.DataFrame:
        """Return the run's predictions: split, image_id, group, label and `logit/CLASS`."""
        return read_predictions(self.folder)


def open_run(
    folder: str | Path,
    *,
    root: str | Path | None = None,
    cache_dir: str | Path | None = None,
    memory: Memory | None = None,
) -> OpenRun:
    """Open a finished run: its network, weights, images, splits and transform.

    Args:
        folder: the run folder.
        root: the dataset's folder, where it is not the one that the run used.
        cache_dir: the cache folder; by default the run's where it is a cache on this machine,
            else `$TLCNN_CACHE` or the user's.
        memory: what several open runs share, such as decoded images; None: nothing.

    Raises:
        DataError: there is no such run, it was imported, or its records are damaged.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"there is no run folder {folder}; tlcnn status lists the runs of a folder"
        )
    record = read_plan(folder)
    if record.imported:
        raise DataError(f"{folder} holds imported predictions: there is no network to open")
    config = read_config(folder)
    if cache_dir is None and config.cache_dir and (Path(config.cache_dir) / "facts").is_dir():
        cache_dir = config.cache_dir  # the folder of somebody else's run may name any place
    place = find_cache_dir(None if cache_dir is None else str(cache_dir))
    data = config.dataset
    if "cache_dir" in data.options:  # a place of the machine that trained
        data = replace(data, options={**data.options, "cache_dir": str(place)})
    if root is not None:
        data = replace(data, root=str(root))
    return OpenRun(folder, record, replace(config, dataset=data), place, memory or Memory())
