"""The parts of `scripts/gpu_check.py`: each measures one thing and yields rows of its table.

A part writes its files into the folder of the check as it goes, so that a part which is ended
early leaves what it has measured.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.limit import measure_limit
from bench.phases import BEGINNING
from bench.records import Section, describe_machine, write_results
from bench.sides import Case, Side, make_tlcnn_words, run_plain, run_timm, run_tlcnn
from bench.trainings import QUIET, measure_grid, measure_packed, measure_single
from bench.watch import watch
from tlcnn.config.compose import compose_config, make_memory
from tlcnn.plan.plan import make_plan
from tlcnn.run.job import Job
from tlcnn.sweep.drive import launch_here

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = (
    *("resnet18", "seresnet18", "mobilenetv2_100", "mobilenetv3_small_050"),
    *("tf_efficientnet_lite0", "densenet121", "convnext_atto", "regnetx_002", "vgg11_bn"),
)


@dataclass(frozen=True)
class Row:
    """A row of the closing table.

    Attributes:
        bar: what was hoped for; empty where there is no bar.
        is_met: whether the value meets the bar; None where there is none, or no value.
    """

    what: str
    value: str
    bar: str = ""
    is_met: bool | None = None


@dataclass(frozen=True)
class Check:
    """What all parts share.

    Attributes:
        cases: the trainings, by the side of the image in pixels; the smallest first.
        grid: the training whose cells are the grid.
        other: a second network, for which there are weights, or None.
        is_dry: tiny, and on whatever device there is.
    """

    output: Path
    cases: Mapping[int, Case]
    grid: Case
    other: Case | None
    timm_train: Path | None
    is_dry: bool
    sections: dict[str, Section] = field(default_factory=dict)

    @property
    def case(self) -> Case:
        """The training of the smallest images."""
        return next(iter(self.cases.values()))

    def add(self, name: str, section: Section) -> Section:
        """Write a section of measurements, with those before it, and return it."""
        self.sections[name] = section
        machine = describe_machine(self.case.device, self.case.work, self.timm_train)
        write_results(self.output / f"{name.split()[0]}.json", machine, self.sections)
        return section

    def compare(self, what: str, value: float, bar: float, unit: str = "") -> Row:
        """Return a row whose value should not be below a bar; the bars are those of a GPU."""
        if self.is_dry:
            return Row(what, f"{value:.3g}{unit}")
        return Row(what, f"{value:.3g}{unit}", f">= {bar:g}{unit}", value >= bar)


# ---- tests --------------------------------------------------------------------------------------


def run_tests(check: Check) -> Iterator[Row]:
    """Run the tests that need a GPU; a dry run only collects them."""
    files = [p for p in sorted((ROOT / "tests").glob("test_*.py")) if "mark.gpu" in p.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu"]
    command += ["--collect-only"] if check.is_dry else ["--durations=10"]
    with (check.output / "tests.txt").open("w") as file:
        process = subprocess.Popen(
            [*command, *map(str, files)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            file.write(line)
            lines.append(line.strip())
    code = process.wait()
    yield Row("tests of the GPU", lines[-1].strip("= "), "all pass", code == 0)
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            yield Row("test", line[:150], "passes", False)


# ---- bits ---------------------------------------------------------------------------------------


def compare_bits(check: Check) -> Iterator[Row]:
    """Train in every mode, and compare weights and predictions."""
    for case in (check.case, check.other):
        for precision in ("fp32", "bf16") if case is not None else ():
            this = replace(case, precision=precision, epochs=3)
            digests = train_in_every_mode(this, f"bits-{case.model}-{precision}")
            values = set(digests.values())
            text = f"{len(digests)} modes, {len(values)} result{'s' * (len(values) > 1)}"
            if len(values) > 1:
                text += f": {digests}"
            yield Row(f"{case.model}, {precision}", text, "1 result", len(values) == 1)


def train_in_every_mode(case: Case, name: str) -> dict[str, str]:
    """Return the digest of what a training ends in, by the mode in which it was trained.

    A process of its own is killed; the other modes share this process.
    """
    outputs = {
        mode: case.work / f"{name}-{mode}" for mode in ("eager", "recorded", "packed", "killed")
    }
    words = {mode: tuple(make_tlcnn_words(case, output)) for mode, output in outputs.items()}
    memory = make_memory([])
    for mode, more, seeds in (
        ("eager", ("cuda_graph=false",), (0,)),
        ("recorded", (), (0,)),
        ("packed", (), (0, 1, 2, 3)),
    ):
        jobs = [Job((*words[mode], *more, f"seed={seed}"), place=QUIET) for seed in seeds]
        for outcome in launch_here(jobs, memory, n_together=len(jobs)):
            if outcome.code:
                raise SystemExit(f"{mode}: {outcome.error}")
    killed = ["-m", "tlcnn.train", *words["killed"], "checkpoint_every_s=0"]
    watch(*killed, kill_at="epoch 1/")
    watch(*killed)
    return {mode: digest_run(output) for mode, output in outputs.items()}


def digest_run(output: Path) -> str:
    """Return a digest of the weights and predictions of the run of seed 0 in a folder."""
    from safetensors.torch import load_file

    from tlcnn.records.read import read_predictions

    (folder,) = output.glob("runs/*-s0-*")
    digest = hashlib.sha256(read_predictions(folder).to_csv(float_format="%.9g").encode())
    for tensor in load_file(folder / "weights.safetensors").values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:12]


# ---- speed --------------------------------------------------------------------------------------


def measure_speed(check: Check) -> Iterator[Row]:
    """Compare one run with its limit and with the peers, and runs that share the device."""
    for size, case in check.cases.items():
        yield from compare_with_limit(check, case, f"{case.model}, {size} px")
    if check.other is not None:
        yield from compare_with_limit(check, check.other, f"{check.other.model}")
    packed_case = check.case if check.is_dry else replace(check.case, epochs=10)
    section = check.add("speed packed", measure_packed(packed_case, (1, 2, 4, 8)))
    seconds = {task: row["whole_s"][0] for (task, _), row in section.rows.items()}
    for (task, _), row in section.rows.items():
        yield Row(
            f"8 runs, {task}", f"{seconds[task]:.1f} s, {row['images_per_s'][0]:,.0f} images/s"
        )
    first, *later = seconds.values()
    yield check.compare("packed against one after the other", first / min(later), 1.8, "x")
    sides: dict[str, Side] = {"tlcnn": run_tlcnn, "plain loop": run_plain}
    if check.timm_train is not None:
        sides["timm"] = partial(run_timm, check.timm_train)
    sizes = list(check.cases)
    for size in (sizes[0], sizes[-1])[: len(sizes)]:
        yield from compare_with_peers(check, sides, size, bar=15 if size == sizes[0] else 10)


def compare_with_limit(check: Check, case: Case, name: str) -> Iterator[Row]:
    """Measure a run against pure compute."""
    section = measure_limit(case, ("bf16",), 1)
    check.add(f"speed limit {name}", section)
    rows = {side: row for (_, side), row in section.rows.items()}
    for side, row in rows.items():
        rates = row["images_per_s"]
        yield Row(f"{name}, {side}", f"{median(rates):,.0f} images/s")
    row = rows["tlcnn"]
    yield check.compare(f"{name}, share of the limit", median(row["share"]), 0.9)
    whole = median(row["share_with_validation"])
    yield check.compare(f"{name}, the same with validation", whole, 0.75)


def compare_with_peers(
    check: Check, sides: Mapping[str, Side], size: int, *, bar: float
) -> Iterator[Row]:
    """Measure the epochs of all sides."""
    section = measure_single(check.cases[size], sides, {"bf16": 1})
    check.add(f"speed peers {size}", section)
    seconds = {side: median(row["epoch_s"]) for (_, side), row in section.rows.items()}
    for side, value in seconds.items():
        if side == "tlcnn":
            yield Row(f"an epoch at {size} px, tlcnn", f"{value:.3g} s")
            continue
        ratio = value / seconds["tlcnn"]
        what = f"an epoch at {size} px, {side}"
        yield Row(what, f"{value:.3g} s")
        if side == "timm":
            yield check.compare(f"{what} against tlcnn", ratio, bar, "x")
        else:
            yield Row(f"{what} against tlcnn", f"{ratio:.3g}x")


# ---- reuse --------------------------------------------------------------------------------------


def examine_reuse(check: Check) -> Iterator[Row]:
    """Ask whether frozen units compute an image to the same bits in any batch of one size."""
    from bench.exactness import count_differing

    results: dict[str, Any] = {}
    case, n_exact = check.case, 0
    names = FAMILIES[:2] if check.is_dry else FAMILIES
    for name in names:
        for precision in ("fp32", "bf16"):
            words = make_tlcnn_words(replace(case, precision=precision), case.work / "reuse")
            words = [w for w in words if not w.startswith(("init", "model"))]
            plan = make_plan(compose_config([*words, f"model.name={name}", "init=random"]))
            counts = count_differing(plan)
            results[f"{name} {precision}"] = counts
            (check.output / "reuse-counts.json").write_text(json.dumps(results, indent=1) + "\n")
            differing = {unit: n for unit, n in counts.items() if n}
            n_exact += not differing
            if differing:
                yield Row(f"reuse, {name}, {precision}", f"images that differ: {differing}")
    n = len(results)
    text = f"{n_exact} of {n} networks and precisions"
    yield Row("the same bits of frozen units in any batch", text, f"{n} of {n}", n_exact == n)


# ---- start --------------------------------------------------------------------------------------


def profile_start(check: Check) -> Iterator[Row]:
    """Time the phases up to the end of the first epoch: with nothing stored, and then again."""
    script = str(Path(__file__).with_name("phases.py"))
    case = replace(check.case, cache=check.case.work / "cache-start", epochs=1)
    phases: dict[str, list[float]] = {}
    for number in range(2):
        words = make_tlcnn_words(case, case.work / f"start-{number}")
        watched = watch(script, *words, "train.warmup_epochs=0", "progress=false")
        (line,) = watched.find(BEGINNING)
        seconds = json.loads(line.text.removeprefix(BEGINNING))
        for phase, value in {**seconds, "all": sum(seconds.values())}.items():
            phases.setdefault(phase, []).append(value)
        (check.output / "start-seconds.json").write_text(json.dumps(phases, indent=1) + "\n")
    for phase, values in phases.items():
        text = ", then ".join(f"{value:.2f} s" for value in values)
        yield Row(f"to the end of epoch 1, {phase}", text)


# ---- grid ---------------------------------------------------------------------------------------


def measure_whole_grid(check: Check) -> Iterator[Row]:
    """Train the grid; the plain loop trains the cells of one seed."""
    sides: dict[str, Side] = {"tlcnn": run_tlcnn, "plain loop": run_plain}
    if check.timm_train is not None:
        sides["timm"] = partial(run_timm, check.timm_train)
    section = check.add("grid", measure_grid(check.grid, sides, 1))
    seconds = {side: mean(row["whole_s"]) for (_, side), row in section.rows.items()}
    for side, value in seconds.items():
        what = f"{len(check.grid.seeds)} x 21 cells, {side}"
        yield Row(what, f"{value:,.0f} s")
        ratio = value / seconds["tlcnn"]
        if side == "timm":
            yield check.compare(f"{what} against tlcnn", ratio, 25, "x")
        elif side != "tlcnn":
            yield Row(f"{what} against tlcnn", f"{ratio:.3g}x")


PARTS: dict[str, Callable[[Check], Iterator[Row]]] = {
    "bits": compare_bits,
    "speed": measure_speed,
    "tests": run_tests,
    "grid": measure_whole_grid,
    "reuse": examine_reuse,
    "start": profile_start,
}


def run_part(name: str, check: Check) -> None:
    """Run one part, and write every row when it is known."""
    rows: list[dict[str, Any]] = []
    for row in PARTS[name](check):
        rows.append(asdict(row))
        (check.output / f"{name}-rows.json").write_text(json.dumps(rows, indent=1) + "\n")
        print(f"{row.what}: {row.value}", flush=True)
