"""A run's network, ready for images: `tlcnn.load`.

run folder -> Network: model, transform, classes, units -> logits of decoded images
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from tlcnn.data.batches import Batches
from tlcnn.data.cache import stored_size
from tlcnn.data.files import FileRef
from tlcnn.data.images import FULL_BITS, FileImages
from tlcnn.data.resize import choose_decoding
from tlcnn.device import find_device
from tlcnn.errors import ConfigError, DataError
from tlcnn.inference.image_list import make_rgb
from tlcnn.layers.subject import pool
from tlcnn.memory import Memory
from tlcnn.model.cut import find_entrances
from tlcnn.records.open_run import OpenRun, open_run
from tlcnn.records.plan_record import PlanRecord
from tlcnn.records.read import read_state
from tlcnn.run.run import set_torch_flags
from tlcnn.training.evaluate import compute_logits

# Stored side, fit, decoding, bits of 16-bit images: how an image becomes stored pixels.
StoredForm = tuple[int, str, str, int]


@dataclass(frozen=True)
class Network:
    """A trained network and exactly the preprocessing of its run.

    Attributes:
        run: the run folder, opened: its images, splits, configuration and predictions.
        model: the torch module, in evaluation mode, on `device`. It maps (N, 3, H, W) to logits.
        device: cpu, cuda or mps.
        classes: K names, in the order of the logits.
        units: the names of its units, from the input to the output.
    """

    run: OpenRun
    model: nn.Module = field(repr=False)
    device: str
    classes: tuple[str, ...]
    units: tuple[str, ...]

    @property
    def record(self) -> PlanRecord:
        """What the run was asked to do."""
        return self.run.record

    @property
    def stored_form(self) -> StoredForm:
        """How images are stored before the network's crop."""
        cfg = self.run.config.dataset
        bits = self.record.identity["dataset"].get("bits", FULL_BITS)
        return stored_size(cfg.image_size), cfg.fit, cfg.decode, bits

    def transform(self, image: str | Path | Image.Image | np.ndarray) -> Tensor:
        """Return one image as the network was tested on it, (3, H, W) float32 on the CPU.

        Args:
            image: a file, an image of Pillow, or (H, W, 3) or (H, W) uint8.

        Raises:
            DataError: the file cannot be decoded, or the array is no image.
        """
        if isinstance(image, (str, Path)):
            pixels = choose_decoding(FileImages([FileRef(Path(image))]), *self.stored_form).load(0)
        else:
            pixels = make_rgb(image, self.stored_form[-1])
        return self.run.transform(pixels)

    def batch(self, pixels: np.ndarray) -> Batches:
        """Return stored images, (n, S, S, 3) uint8, as a split that the network can be run on."""
        cfg, n = self.run.config.dataset, len(pixels)
        labels = torch.zeros(n, dtype=torch.int64, device=self.device)
        keys, rows = np.zeros(n, dtype=np.uint64), np.arange(n)
        return Batches(pixels, rows, labels, keys, cfg.image_size, cfg.normalize)

    def compute(
        self, images: Batches, *, batch_size: int | None = None, at: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits (n, K) of images and features (n, D), both float32.

        With the batches, device and threads of the run's own evaluation, the logits have its bits.

        Args:
            at: the number of the unit whose outputs, averaged over the map, are the features;
                None: what enters the classifier.
        """
        if len(images) == 1:  # an image alone gets the bits that it has among others
            pixels = images.take(np.zeros(1, dtype=np.int64)).cpu().numpy()
            logits, features = self.compute(self.batch(np.repeat(pixels, 2, axis=0)), at=at)
            return logits[:1], features[:1]
        unit_map = self.run.unit_map()
        paths = (self.classifier_path,) if at is None else find_entrances(unit_map, at)
        batches: list[list[Tensor]] = []

        def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
            if not batches[-1]:  # of modules inside each other, the outer one is called first
                batches[-1].append(pool(args[0].detach().float())["pooled"])

        with ExitStack() as stack:
            start = self.model.register_forward_pre_hook(lambda module, args: batches.append([]))
            stack.callback(start.remove)
            for path in paths:
                module = self.model.get_submodule(path)
                stack.callback(module.register_forward_pre_hook(keep).remove)
            logits = compute_logits(
                self.model,
                images,
                batch_size=batch_size or self.run.config.eval_batch_size,
                precision=self.record.precision,
            )
        return logits, torch.cat([features for (features,) in batches]).cpu().numpy()

    @property
    def classifier_path(self) -> str:
        """The path of the layer whose outputs are the logits."""
        return self.run.unit_map().head[-1].rpartition(".")[0]


def load(
    run: "str | Path | Mapping[str, Any] | pd.Series | Network",
    *,
    device: str = "auto",
    root: str | Path | None = None,
    cache_dir: str | Path | None = None,
    memory: Memory | None = None,
) -> Network:
    """Open a finished run as a network that can be applied to images.

    Args:
        run: the run folder, or what has one: a row of `read_runs`, or what `tlcnn.train` returned.
            A `Network` is returned as it is.
        device: auto, cpu, cuda or mps.
        root: the folder of the run's own images, where they are no longer where it read them.
        cache_dir: the cache folder; see `open_run`.

    Raises:
        DataError: there is no such run, or its records are damaged.
        WeightsError: its weights are missing, or are not what the run wrote.
        ConfigError: there is no such device, or a `Network` was loaded with another option.
    """
    if isinstance(run, Network):
        _check_loaded(run, device, root, cache_dir)
        return run
    folder: Any = run if isinstance(run, (str, Path)) else run.get("folder")
    if folder is None:
        raise DataError("a run is a folder, or a row of read_runs with a column `folder`")
    opened = open_run(folder, root=root, cache_dir=cache_dir, memory=memory)
    state = read_state(opened.folder)
    if state != "done":
        raise DataError(f"{folder} is not finished ({state}). Train it to its end first")
    name = find_device(device, opened.cache_dir).name
    return Network(opened, opened.model(name), name, opened.classes, opened.unit_map().names)


def _check_loaded(
    network: Network, device: str, root: str | Path | None, cache_dir: str | Path | None
) -> None:
    """Raise ConfigError where a network was loaded with other options than are asked for."""
    run = network.run
    for name, asked, loaded in (
        ("device", None if device == "auto" else device, network.device),
        ("root", root, run.config.dataset.root),
        ("cache_dir", cache_dir, run.cache_dir),
    ):
        if asked is None or asked == loaded:
            continue
        if name == "device" or Path(asked).expanduser() != Path(loaded or "").expanduser():
            raise ConfigError(
                f"{name}={asked} does not change a network that is loaded already, with "
                f"{name}={loaded}. Load it again: tlcnn.load({str(run.folder)!r}, "
                f"{name}={str(asked)!r})"
            )


def load_all(runs: Any, **options: Any) -> list[Network]:
    """Open one run or several, each once; options as in `load`.

    Raises ConfigError where classes differ.
    """
    is_one = isinstance(runs, (str, Path, Mapping, pd.Series, Network))
    if isinstance(runs, pd.DataFrame):
        runs = runs["folder"].tolist()
    opened = [load(run, **options) for run in ([runs] if is_one else runs)]
    networks = list({network.record.run_id: network for network in opened}.values())
    if not networks:
        raise DataError("no run was given: a run folder is needed")
    first = networks[0]
    for network in networks[1:]:
        names = (first.run.folder.name, network.run.folder.name)
        for what, one, other in (
            ("classes", first.classes, network.classes),
            ("task", first.record.task, network.record.task),
        ):
            if one != other:
                raise ConfigError(
                    f"{names[0]} and {names[1]} are no ensemble: their {what} are {one} and "
                    f"{other}. Give runs with the same classes in the same order"
                )
    return networks


@contextmanager
def computing(network: Network) -> Iterator[None]:
    """Compute with the threads and algorithms of the run, and restore those of the caller."""
    threads, is_fast = torch.get_num_threads(), torch.backends.cudnn.benchmark
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    set_torch_flags(network.run.config.threads, network.device)
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        stack.callback(torch.use_deterministic_algorithms, is_deterministic, warn_only=warns)
        stack.callback(setattr, torch.backends.cudnn, "benchmark", is_fast)
        yield
