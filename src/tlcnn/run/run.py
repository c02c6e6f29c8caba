"""One experiment, top to bottom: `run(plan)` trains it, resumes it, or says that it is done.

    plan -> network before its first step -> images -> trained network -> results

torch is imported where it is used, because a finished run is skipped without it.
"""

import io
import logging
import os
import traceback
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlcnn.device import count_cores
from tlcnn.errors import Diverged, Stopped, StorageError
from tlcnn.memory import Memory
from tlcnn.plan.describe import describe_plan
from tlcnn.plan.plan import Plan
from tlcnn.plan.train_settings import find_tensor_factors
from tlcnn.records.folder import RunDir
from tlcnn.records.summary import Summary, read_history, read_summary, summarize_epochs
from tlcnn.storage import open_to_append, writing
from tlcnn.text import VisibleFormatter
from tlcnn.training.interrupt import StopRequest, catch_signals

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlcnn.run.inputs import TrainedPart
    from tlcnn.run.network import InitialNetwork
    from tlcnn.training.curve import Report
    from tlcnn.training.fit import Fit
    from tlcnn.training.lane import Lane
    from tlcnn.training.turns import Turn

log = logging.getLogger(__name__)

_current_run: ContextVar[Path | None] = ContextVar("current_run", default=None)


def run(plan: Plan, memory: Memory | None = None) -> dict[str, Any]:
    """Train what the plan says, continuing from its last checkpoint, and return its summary.

    A finished run returns at once, and so does a run that has reached `until_epoch`. A run that
    another process holds is waited for, or refused with `on_locked=fail`. A run that starts from
    another run trains that one first. What the runs of one process share, such as decoded images,
    is in `memory`.

    Raises:
        RunLocked: another process holds the run and `on_locked=fail`.
        Stopped: a signal came; run the same plan again to continue.
        Diverged, DataError, WeightsError, StorageError, BrokenPromise: see `tlcnn.errors`.
    """
    from tlcnn.training.turns import finish

    return finish(run_in_turns(plan, memory))


def run_in_turns(
    plan: Plan, memory: Memory | None = None
) -> Generator["Turn", None, dict[str, Any]]:
    """Do what `run` does, turn after turn, so that several runs of a process can take turns."""
    folder = RunDir(plan.run_dir)
    if (summary := _find_summary(plan, folder)) is not None:
        return summary
    memory = memory or Memory()
    if hint := plan.dataset.index.hint:
        memory.recall("hint", hint, lambda: log.warning("%s", hint))
    if plan.parent is not None:
        yield from run_in_turns(plan.parent, memory)
    import torch

    from tlcnn.run.network import build_initial_network
    from tlcnn.training.lane import Lane

    initial = build_initial_network(plan, memory)  # what cannot be trained leaves no folder
    wait = plan.config.on_locked == "wait"
    with catch_signals() as stop, folder.hold(wait=wait, say=log.info, check_stop=stop.check):
        if (summary := _find_summary(plan, folder)) is not None:
            return summary  # the process that we waited for has done it
        folder.clear_marks()
        with _recording(folder):
            streams = memory.recall("idle streams", plan.device.name, list)
            lane = Lane(torch.device(plan.device.name), streams)
            turns = train(plan, initial, folder, stop, memory, lane)
            summary = asdict((yield from lane.take_turns(turns)))
        stop.check()  # a signal that came too late for this run still ends a sweep
    return summary


def _find_summary(plan: Plan, folder: RunDir) -> dict[str, Any] | None:
    """Return the summary of a run that needs no training, because it is done or paused.

    Raises Diverged where a run with `until_epoch`, a trial, diverged before: it would again.
    """
    if folder.is_done:
        folder.delete_leftovers()  # of a kill between DONE and the deletion of checkpoints
        log.info("already done: %s", folder.path)
        return asdict(read_summary(folder.path))
    cfg = plan.config
    if cfg.until_epoch is None:
        return None
    if (error := folder.find_divergence()) is not None:
        raise Diverged(error)
    history = read_history(folder.path)
    is_paused = cfg.until_epoch <= len(history) < cfg.train.epochs
    return asdict(summarize_epochs(history, cfg.train.select)) if is_paused else None


def train(
    plan: Plan,
    initial: "InitialNetwork",
    folder: RunDir,
    stop: StopRequest,
    memory: Memory,
    lane: "Lane",
) -> Generator["Turn", None, Summary]:
    """Train, test and record one run in a folder that this process holds; return its summary.

    A run that pauses at `until_epoch` is not tested.
    """
    from tlcnn.model.freeze import check_frozen
    from tlcnn.run.results import write_epoch, write_results, write_start
    from tlcnn.run.tracking import open_tracker
    from tlcnn.training.turns import Turn

    set_torch_flags(plan.config.threads, plan.device.name)
    write_start(plan, folder, initial, memory)
    log.info("%s", describe_plan(plan))
    with open_tracker(plan.config.logger, folder.path) as tracker:
        report = tracker.add_points if tracker else None
        training = build_training(plan, initial, folder.path, stop, memory, lane, report)
        fit = training.fit
        for turn in fit.run():
            if turn is Turn.EPOCH:
                write_epoch(plan, folder, fit.position.history)
                if tracker:
                    tracker.add_epochs(fit.position.history, fit.n_updates)
            yield turn
    check_frozen(fit.network.model, training.frozen)
    if fit.is_paused:
        log.info("paused after epoch %d: %s", len(fit.position.history), folder.path)
        return summarize_epochs(read_history(folder.path), plan.config.train.select)
    try:
        return write_results(
            plan, folder, fit.network, training.inputs, fit.position, training.response, stop
        )
    except Stopped:
        fit.save()  # so that only the test is repeated
        raise


@dataclass(frozen=True)
class Training:
    """A run that is ready for its first step.

    Attributes:
        inputs: the part of the network that is trained, and what it is fed with.
        frozen: the frozen tensors as they are before training, by name.
        response: what `measure_response` returned.
    """

    fit: "Fit"
    inputs: "TrainedPart"
    frozen: dict[str, "Tensor"]
    response: float | None


def build_training(
    plan: Plan,
    initial: "InitialNetwork",
    folder: Path,
    stop: StopRequest,
    memory: Memory,
    lane: "Lane",
    report: "Report | None" = None,
) -> Training:
    """Load the images of a plan, freeze its units, and return what trains the network.

    Args:
        report: as in `Fit`.
    """
    from tlcnn.data.batches import load_batches
    from tlcnn.model.freeze import apply_freeze, snapshot_frozen
    from tlcnn.run.inputs import build_inputs
    from tlcnn.run.phases import build_phases
    from tlcnn.run.response import measure_response
    from tlcnn.training.checkpoint import Checkpoints
    from tlcnn.training.fit import Fit
    from tlcnn.training.recipe import Recipe
    from tlcnn.training.state import Network
    from tlcnn.training.tasks import build_objective

    cfg, index, units = plan.config, plan.dataset.index, plan.treatment.frozen
    images = load_batches(
        cfg.dataset,
        plan.dataset,
        memory,
        device=plan.device.name,
        cache_dir=plan.cache_dir,
        workers=cfg.workers,
        progress=cfg.progress,
        should_stop=lambda: bool(stop),
    )
    model = initial.model.to(images["train"].device)
    apply_freeze(model, plan.unit_map, units, bn=cfg.freeze.bn)
    frozen = snapshot_frozen(model, plan.unit_map, units, bn=cfg.freeze.bn)
    response = measure_response(plan, model, images["train"])
    inputs = build_inputs(plan, model, images, memory, stop)
    network = Network(
        model,
        inputs.trained,
        fixed=frozenset(frozen),
        factors=find_tensor_factors(cfg.train, plan.unit_map),
        starts=_copy_starts(plan, model, frozen),
    )
    recipe = Recipe(**{**asdict(cfg.train), "precision": plan.precision})
    fit = Fit(
        network,
        inputs.splits,
        recipe,
        build_objective(index.task, images["train"].labels, len(index.classes), recipe),
        build_phases(plan, model),
        Checkpoints(folder, plan.run_id, every_s=cfg.checkpoint_every_s),
        seed=cfg.seed,
        eval_batch_size=cfg.eval_batch_size,
        stop=stop,
        lane=lane,
        progress=cfg.progress,
        records=cfg.cuda_graph,
        until_epoch=cfg.until_epoch,
        report=report,
    )
    return Training(fit, inputs, frozen, response)


def _copy_starts(
    plan: Plan, model: "nn.Module", frozen: Mapping[str, "Tensor"]
) -> dict[str, "Tensor"]:
    """Return the weights that `train.anchor` pulls transferred units towards, by tensor."""
    if not plan.config.train.anchor:
        return {}
    names = set(plan.unit_map.tensors_in(plan.treatment.transferred)) - frozen.keys()
    return {n: p.detach().clone() for n, p in model.named_parameters() if n in names}


def set_torch_flags(threads: int | None, device: str) -> None:
    """Set the number of CPU threads of this process and, on a GPU, deterministic algorithms.

    torch warns of operations on a GPU that have no deterministic algorithm.
    """
    import torch

    torch.set_num_threads(threads or count_cores())
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        # Filling new memory costs time and is of no use: nothing reads memory before it is set.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def _recording(folder: RunDir) -> Iterator[None]:
    """Write the log to the run folder, too, and leave FAILED with the traceback if a run fails.

    Where several runs take turns, each is in a context of its own, and only its messages are
    written.
    """
    path = folder.path / "log.txt"
    with writing(path):
        file = io.TextIOWrapper(open_to_append(path), encoding="utf-8")
    handler = logging.StreamHandler(file)
    handler.setFormatter(VisibleFormatter("%(asctime)s %(levelname)s %(message)s"))
    handler.setLevel(logging.DEBUG)
    outer = _current_run.get()
    _current_run.set(folder.path)
    # Threads that a run starts have no current run.
    handler.addFilter(lambda record: _current_run.get() in (folder.path, None))
    logger = logging.getLogger("tlcnn")
    logger.addHandler(handler)
    try:
        yield
    except (Stopped, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:
        log.debug("failed", exc_info=True)
        with suppress(StorageError):  # on a full disk the first error is the one to report
            folder.write_failed(traceback.format_exc())
        raise
    finally:
        _current_run.set(outer)
        logger.removeHandler(handler)
        handler.close()
        file.close()
