"""A model card: what an exported network was trained on, how good it is, and where it ends.

Mitchell et al. 2019, Model Cards for Model Reporting. It is a README.md with the header that model
hubs read.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tlcnn import __version__
from tlcnn.data.sources import DRAWN, find_source
from tlcnn.errors import ConfigError
from tlcnn.records.plan_record import PlanRecord
from tlcnn.report.method_sentences import DATA, PROCEDURE
from tlcnn.report.methods import write_facts
from tlcnn.report.numbers import format_estimate
from tlcnn.report.words import name_dataset, name_metric, write_classes
from tlcnn.report.writers.markdown import escape_markdown
from tlcnn.statistics.few_groups import LEAST_GROUPS
from tlcnn.study.arms import estimate_mean, load_arms
from tlcnn.study.cells import make_cells
from tlcnn.study.class_weights import find_class_weights
from tlcnn.study.runs import Run, make_single_runs

if TYPE_CHECKING:
    import pandas as pd

    from tlcnn.inference.export import Check

METRICS = ("balanced_accuracy", "accuracy", "macro_auroc", "macro_f1", "nll", "brier", "ece")
_FEW = 100  # training images of a class

_USE = """\
```python
import json, numpy, torch{package}
from preprocess import preprocess  # the file beside this one; needs Pillow and NumPy

recipe = json.load(open("preprocessing.json"))
images = torch.from_numpy(numpy.stack([preprocess("image.jpg", recipe)]))
{load}
with torch.no_grad():
    probabilities = model(images).{activation}[0]
print(dict(zip(recipe["output"]["classes"], probabilities.tolist())))
```"""
_LOADS = {  # format: a package, and the lines that make `model`
    "timm": (
        ", timm  # timm 1.0.26 or newer",
        'model = timm.create_model("local-dir:.", pretrained=True).eval()',
    ),
    "torch.export": ("", 'model = torch.export.load("model.pt2").module()'),
    "torchscript": ("", 'model = torch.jit.load("model.torchscript.pt")'),
    "onnx": (
        ", onnxruntime",
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        'model = lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])',
    ),
}


def write_card(runs: "pd.DataFrame", checks: "Mapping[str, Check]") -> str:
    """Return the model card of one run, as Markdown.

    Args:
        runs: what `read_runs` returned for the folder of the run.
        checks: what was exported, by format.
    """
    (run,) = make_single_runs(runs)
    plan = run.plan
    activation = "sigmoid()" if plan.task == "multi-label" else "softmax(1)"
    package, load = _LOADS[next(iter(checks))]
    use = _USE.format(package=package, load=load, activation=activation)
    parts = [
        f"---\nlibrary_name: {'timm' if 'timm' in checks else 'pytorch'}\n"
        "pipeline_tag: image-classification\ntags: [transfer-learning, tlcnn]\n---",
        f"# {run.model} for {name_dataset(run.dataset)}",
        f"A {run.model} that assigns images to {len(plan.classes)} classes: "
        f"{write_classes(plan.classes) or ', '.join(plan.classes)}.",
        "## Use\n\nThe network needs images exactly as it was tested on them. Other ways of "
        "resizing change its predictions.\n\n" + use,
        "## Data\n\n" + " ".join(write_facts([plan], DATA)) + "\n\n" + _write_counts(plan),
        "## Results\n\n" + _write_results(runs, run),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _list_limits(run)),
        "## Training\n\n" + " ".join(write_facts([plan], PROCEDURE)),
        "## Licence\n\n" + describe_licence(plan),
        "## Files\n\n" + _write_checks(checks),
        *filter(None, [describe_rounding(plan.precision, checks)]),
        f"Run `{run.run_id}`, written by tlcnn {__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def _write_counts(plan: PlanRecord) -> str:
    rows = ["| class | training | validation | test |", "|---|---|---|---|"]
    sizes = [plan.split_sizes.get(split, {}) for split in ("train", "val", "test")]
    for name in plan.classes:
        rows.append(
            f"| {escape_markdown(name)} | "
            + " | ".join(f"{s.get(name, 0):,}" for s in sizes)
            + " |"
        )
    return "\n".join(rows)


def _write_results(runs: "pd.DataFrame", run: Run) -> str:
    """Return a table of metrics with intervals over new test groups, for this very network."""
    names = [f"test/{m}" for m in METRICS]
    names += [f"test/recall/{c}" for c in run.plan.classes]
    (cell,) = make_cells([run])
    arms = load_arms(cell, [name for name in names if name in run.scores])
    rows = ["| metric | test set [95 % interval] |", "|---|---|"]
    for name, arm in arms.items():
        mean = estimate_mean([replace(arm, is_fixed=True)])
        text = format_estimate(mean.value, low=mean.low, high=mean.high)
        rows.append(f"| {escape_markdown(name_metric(name))} | {text} |")
    return (
        "The intervals are over other test groups (patients, lesions) of the same kind, for this "
        "network as it is. A number without an interval has none that can be computed. "
        "The test images were used once, after training.\n\n" + "\n".join(rows)
    )


def _list_limits(run: Run) -> Iterator[str]:
    plan = run.plan
    yield (
        "The results hold for images that are taken and chosen as those of the dataset were. "
        "On images of another hospital, device or population, test it first."
    )
    yield "It is no medical device, and it was not tested as one."
    trained = plan.split_sizes.get("train", {})
    few = [
        f"{name} ({trained.get(name, 0)})" for name in plan.classes if trained.get(name, 0) < _FEW
    ]
    if few:
        yield f"Few training images: {', '.join(few)}."
    tested = plan.split_sizes.get("test", {})
    rare = [name for name in plan.classes if tested.get(name, 0) < LEAST_GROUPS]
    if rare:
        yield f"Fewer than {LEAST_GROUPS} test images: {', '.join(rare)}."
    if only := _find_only_class(run):
        yield f"It gave every test image the class {escape_markdown(only)}."
    if find_class_weights(plan) is not None:
        yield (
            "Training weighted the classes, so probabilities of rare classes are too high for "
            "images with the class frequencies of the dataset (`tlcnn predict --calibrated` "
            "corrects that)."
        )
    yield "Every image gets one of the classes, even an image that shows none of them."


def _find_only_class(run: Run) -> str | None:
    """Return the class that every test image was given, if they are of several classes.

    Recalls of 1 and of 0 do not say this, because images may be given a third class. The precision
    does: it is the share of the class among all test images.
    """
    n_images, tested = run.plan.count_images("test"), run.plan.split_sizes.get("test", {})
    for name in run.plan.classes if run.plan.task != "multi-label" else ():
        precision = run.scores.get(f"test/precision/{name}", 0)
        is_only = math.isclose(precision * n_images, tested.get(name, 0), rel_tol=1e-6)
        if run.scores.get(f"test/recall/{name}") == 1 and is_only and precision < 1:
            return name
    return None


def describe_licence(plan: PlanRecord) -> str:
    """Return the licences, where known, of the data and weights that a run is made from."""
    names = dict.fromkeys([plan.dataset, *(ancestor.dataset for ancestor in plan.ancestry)])
    lines = []
    for name in names:
        if name in DRAWN:
            text = "drawn by a program, free of rights"
        else:
            try:
                text = find_source(name.removesuffix("_leaky")).licence
            except ConfigError:
                text = "unknown to tlcnn; add it here before you publish the network"
        lines.append(f"- {name_dataset(name)}: {text}")
    if plan.weights is not None and not plan.weights_digest.startswith("run:"):
        lines.append(f"- the weights that training began with, {plan.weights.tag}: see their page")
    return "Data and weights that this network was made from:\n\n" + "\n".join(lines)


def describe_rounding(precision: str, checks: "Mapping[str, Check]") -> str:
    """Return a sentence on a run that rounded more than its exported files do, or nothing.

    Args:
        precision: what the run computed in.
    """
    recorded = [
        c.recorded_difference for c in checks.values() if c.recorded_difference is not None
    ]
    if precision == "fp32" or not recorded:
        return ""
    return (
        f"The run computed in {precision} and the exported network computes in fp32, so their "
        f"logits differ: by at most {max(recorded):.1e} of the largest logit here."
    )


def _write_checks(checks: "Mapping[str, Check]") -> str:
    rows = [
        "The logits of each file were compared with those of the network in fp32, and with those "
        "that the run recorded. A difference is the largest one, divided by the largest logit.\n",
        "| file | from the network (allowed) | from the record (allowed) | same class |",
        "|---|---|---|---|",
    ]
    for check in checks.values():
        recorded, same = "the images are not there", ""
        if check.recorded_difference is not None:
            recorded = f"{check.recorded_difference:.1e} ({check.recorded_tolerance:.1e})"
            same = f"{check.n_same_class} of {check.n_images}"
        difference = f"{check.difference:.1e} ({check.tolerance:.1e})"
        rows.append(f"| `{check.file}` | {difference} | {recorded} | {same} |")
    return "\n".join(rows)
