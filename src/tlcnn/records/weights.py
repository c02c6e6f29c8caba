"""weights.safetensors: the weights of a run, whose metadata name the run.

They are identified by the run's id, so they are read only if no byte of them has changed.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn.errors import DataError, WeightsError
from tlcnn.model.weights import RUN_WEIGHTS, WeightsFile
from tlcnn.records.files import DONE, PLAN, read_digests
from tlcnn.records.plan_record import PlanRecord, read_plan
from tlcnn.storage import write_atomic

if TYPE_CHECKING:
    from torch import nn

    from tlcnn.model.checkpoint_file import State


def write_weights(folder: Path, model: "nn.Module", record: PlanRecord) -> None:
    """Write weights.safetensors; its metadata names the run and the runs before it."""
    from safetensors.torch import save

    state = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    about = {
        "run": asdict(record.as_ancestor()),
        "identity": dict(record.identity),
        "ancestry": [asdict(ancestor) for ancestor in record.ancestry],
    }
    content = save(state, {"tlcnn": json.dumps(about, sort_keys=True)})
    write_atomic(folder / RUN_WEIGHTS, content, durable=False)


def locate_run(path: str | Path) -> WeightsFile | None:
    """Return the weights of a finished run, given its folder or the file in it.

    None where it is no finished run: any other file counts by its content.

    Raises:
        WeightsError: the run's plan.json cannot be read.
    """
    place = Path(path).expanduser()
    folder = place if place.is_dir() else place.parent
    if place != folder and place.name != RUN_WEIGHTS:
        return None
    if not ((folder / PLAN).is_file() and (folder / DONE).is_file()):
        return None
    try:
        record = read_plan(folder)
    except DataError as error:
        raise WeightsError(f"{folder} is no run folder that can be read: {error}") from error
    run_id = record.run_id
    return WeightsFile(folder / RUN_WEIGHTS, f"run:{run_id}", record.run_name, f"run {run_id}")


def load_run_weights(folder: Path) -> "State":
    """Read the weights of a finished run: tensor names -> tensors on the CPU.

    Raises:
        WeightsError: the weights are missing, or are not what the run wrote.
    """
    from tlcnn.model.checkpoint_file import load_state

    path = folder / RUN_WEIGHTS
    try:
        digest = read_digests(folder).get(RUN_WEIGHTS)
    except DataError:
        digest = None
    if digest is None:
        raise WeightsError(
            f"{folder / DONE} does not record the sha256 of {RUN_WEIGHTS}, so the weights of this "
            "run cannot be trusted. Delete the folder and train the run again, or use the file as "
            f"it is: init=checkpoint init.weights=COPY_OF_{RUN_WEIGHTS}"
        )
    return load_state(path, sha256=digest)
