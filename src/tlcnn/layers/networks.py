"""From the runs of an analysis to its networks and images.

start   the run's own plan, made again, gives the network before its first step
final, own, twin   the weights of runs
random  another draw of the network, with norm statistics of the target's training images
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from tlcnn.data.batches import Batches
from tlcnn.errors import DataError, WeightsError
from tlcnn.layers.roles import SEED_OFFSET, Analysis
from tlcnn.layers.subject import Role, Split, Subject, map_batches, pick_images
from tlcnn.memory import Memory
from tlcnn.model.build import build_model
from tlcnn.model.norms import apply_statistics, list_statistics
from tlcnn.model.truncate import truncate_network
from tlcnn.model.unit_map import UnitMap
from tlcnn.plan.plan import Plan, describe_change, make_plan
from tlcnn.records.open_run import OpenRun, open_run
from tlcnn.run.network import build_initial_network, has_weights
from tlcnn.run.run import set_torch_flags

# The most images of these splits. After a change, raise the default of `AnalysisRecord.version`.
N_VAL, N_TEST = 1000, 2000
_STATISTICS_BATCH = 256  # images; the statistics of a norm are the mean over such batches


def build_subject(analysis: Analysis, device: str, memory: Memory) -> Subject:
    """Build the networks of an analysis and load its images.

    Args:
        device: auto, cpu, cuda or mps.

    Raises:
        DataError: the images are not there, or have changed since the run.
        WeightsError: the source of the run's weights is not there, or is not what it was.
        ConfigError: there is no such device.
    """
    opened = open_run(analysis.run_dir, memory=memory)
    plan = make_run_plan(opened, device, memory)
    set_torch_flags(plan.config.threads, plan.device.name)
    torch.backends.cudnn.allow_tf32 = False  # measures are computed in fp32
    device, unit_map = plan.device.name, opened.unit_map()
    n_most: dict[Split, int] = {"train": analysis.record.n_images, "val": N_VAL, "test": N_TEST}
    group = opened.dataset().index.table["group"].astype(str).to_numpy()
    images, groups = {}, {}
    for split, n_images in n_most.items():
        images[split], _ = pick_images(opened.batches(split, device), n_images)
        groups[split] = group[images[split].rows]
    networks: dict[Role, nn.Module] = {
        "start": build_initial_network(plan).model,  # what `memory` would keep is not needed again
        "final": opened.model(),
        "random": _draw_again(plan),
    }
    if analysis.own_dir is not None:
        networks["own"] = _open_base(analysis.own_dir, unit_map, memory)
    if analysis.twin_dir is not None:
        networks["twin"] = _open_base(analysis.twin_dir, unit_map, memory)
    for network in networks.values():
        network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    apply_mean_statistics(networks["random"], images["train"])
    return Subject(
        unit_map,
        networks,
        images,
        groups,
        n_classes=len(opened.classes),
        k=opened.record.k,
        seed=opened.record.seed,
    )


def make_run_plan(opened: OpenRun, device: str, memory: Memory) -> Plan:
    """Return the plan that a finished run had, made again from its configuration.

    Raises:
        DataError: the images are not there, or have changed since.
        WeightsError: the source's weights are not there, or the plan is another one now.
    """
    opened.dataset()  # its error says what to do where the images are not there
    folder, config, record = opened.folder.absolute(), opened.config, opened.record
    init = replace(config.init, allow_unchecked=True)  # was checked before the run was trained
    run_id = record.weights_digest.removeprefix("run:")
    is_run = run_id != record.weights_digest and init.source != "stats"
    if is_run and any(folder.parent.glob(f"*-{run_id}")):  # wherever the folders are now
        init = replace(init, source="run", run=run_id, weights=None)
    config = replace(
        config,
        init=init,
        train=replace(config.train, precision=record.precision),
        device=device,
        threads=None,
        output_dir=str(folder.parent.parent),
        cache_dir=str(opened.cache_dir),
    )
    where = f"the network before the first step of {folder.name} cannot be built"
    try:
        plan = make_plan(config, memory)
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}") from error
    except DataError as error:  # of the dataset that the source was trained on
        raise DataError(f"{where}: {error}") from error
    if not has_weights(plan) and plan.treatment.weights is not None:
        weights = plan.treatment.weights
        raise WeightsError(
            f"{where}: it starts from {weights.origin}, and {weights.path} is not there. Put the "
            "folder of that run back, or train it again."
        )
    if plan.run_id != record.run_id:
        change = describe_change(folder, plan)
        raise WeightsError(
            f"{where}: its configuration means another run now ({plan.run_id}): {change}."
        )
    return plan


def _open_base(run_dir: Path, unit_map: UnitMap, memory: Memory) -> nn.Module:
    """Return the network of a run, without the units that a map drops.

    What leaves the remaining units is as before; the classifier behind them is a fresh one.
    """
    opened = open_run(run_dir, memory=memory)
    model = opened.model()
    if not opened.unit_map().dropped:
        truncate_network(model, unit_map, seed=0)
    return model


def _draw_again(plan: Plan) -> nn.Module:
    """Return the network of a plan, drawn from a seed that no run of a study has."""
    cfg, seed = plan.config, plan.config.seed + SEED_OFFSET
    model = build_model(
        cfg.model.name,
        n_classes=len(plan.dataset.index.classes),
        seed=seed,
        drop_rate=cfg.model.drop_rate,
        drop_path_rate=cfg.model.drop_path_rate,
    )
    truncate_network(model, plan.unit_map, seed)
    return model


@torch.no_grad()
def apply_mean_statistics(
    network: nn.Module, images: Batches, batch_size: int = _STATISTICS_BATCH
) -> None:
    """Do what `apply_statistics` does, but for rounding; each core takes a batch at a time.

    The bits do not depend on the number of cores.
    """

    def build() -> Callable[[Tensor], list[Tensor]]:
        copied = copy.deepcopy(network)

        def compute(batch: Tensor) -> list[Tensor]:
            apply_statistics(copied, [batch])
            return [tensor.clone() for tensor in list_statistics(copied)]

        return compute

    parts = map_batches(images, build, batch_size)
    for position, tensor in enumerate(list_statistics(network)):
        tensor.copy_(torch.stack([part[position] for part in parts]).mean(dim=0))
