"""A fabricated report: run folders and a Content that look real, without any training.

    make_content(tmp_path) -> Content

Two datasets, one model of L = 5 units, three seeds. `ham10000` has the whole k x j grid of
ImageNet weights, the selffer and random-frozen arms and so layer scores; `lung` has three classes,
no melanoma, and starts from random, ImageNet and HAM10000 weights.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.records.folder import RunDir
from tlcnn.records.read import read_runs
from tlcnn.report.content import Content, Finding, Grid, LayerScores
from tlcnn.statistics.metrics import compute_metrics, compute_selection
from tlcnn.statistics.predictions import compute_softmax

METRIC = "test/balanced_accuracy"
METRICS = ("test/macro_auroc", "test/accuracy", "test/ece")
UNITS = ("stem", "stage1", "stage2", "stage3", "stage4")
SEEDS = (0, 1, 2)
EPOCHS, STEPS = 12, 40
MODEL = "resnet18"
SOURCE = "imagenet"
SOURCE_NAMES = {
    "random": "random",
    "self": "self",
    "imagenet": "ImageNet",
    "imagenet-ham10000": "ImageNet → HAM10000",
    "random-ham10000": "random → HAM10000",
}
MARGIN = 0.01
SKIN = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
COUNTS = {  # test images a class; validation has half of them
    "ham10000": dict(zip(SKIN, (33, 51, 110, 12, 111, 330, 15), strict=True)),
    "lung": {"adenocarcinoma": 60, "benign": 55, "squamous cell carcinoma": 45},
}
BOOST = (0.0, 0.012, 0.03, 0.055, 0.08, 0.10)  # of k transferred ImageNet units, all trained
COST = (0.0, -0.012, -0.008, 0.02, 0.075, 0.16)  # of j frozen ones
COADAPTED = (0.0, 0.001, 0.004, 0.022, 0.03, 0.006)  # BnB loses this, and AnB does too
FILTERS = (0.0, 0.02, 0.06, 0.14, 0.22, 0.30)  # random frozen filters lose this
BASES = {"ham10000": 0.55, "lung": 0.74}
CHAIN = {"imagenet": 0.08, "imagenet-ham10000": 0.115, "random-ham10000": 0.03}


def make_content(tmp_path: Path, *, n_seeds: int = 3) -> Content:
    """Write run folders under `tmp_path/outputs/runs` and return what a report of them says."""
    write_runs(tmp_path / "outputs", n_seeds=n_seeds)
    runs = read_runs(tmp_path / "outputs")
    cells = make_cells(runs)
    grids = (make_grid(cells, "ham10000", SOURCE), make_grid(cells, "lung", "imagenet-ham10000"))
    comparisons = make_comparisons(cells)
    return Content(
        title="ham10000 and lung",
        created="2026-01-01 12:00",
        metric=METRIC,
        metrics=METRICS,
        runs=runs,
        left_out=(
            "ham10000-resnet18-imagenet-k5-j0-s7 has failed (Diverged: the loss is not finite)",
            "ham10000-resnet18-imagenet-k5-j1-s7 was stopped after 3 of 12 epochs",
        ),
        cells=cells,
        comparisons=comparisons,
        findings=make_findings(cells, comparisons, grids),
        grids=grids,
        layers=(make_layers(cells),),
        highlights=make_highlights(cells, grids),
        provenance=(
            ("data", (("ham10000", "manifest fea624bb2306"), ("lung", "manifest 0c1c94bd18a1"))),
            ("weights", ((SOURCE, "resnet18.a1_in1k, sha256 fd9ab701c44d"),)),
            ("software", (("tlcnn", "0.1.0"), ("torch", "2.15.0"), ("timm", "1.0.31"))),
            ("hardware", (("device", "cpu"),)),
        ),
        assumptions=(
            "Seeds are drawn from one population of trainings.",
            "Lesions are independent of each other.",
        ),
    )


# ---- run folders --------------------------------------------------------------------------------


def list_cells() -> list[tuple[str, str, int, int]]:
    """Return (dataset, init, k, j) of every fabricated cell."""
    n = len(UNITS)
    skin = [("random", 0, j) for j in range(n + 1)]
    skin += [(SOURCE, k, j) for k in range(1, n + 1) for j in range(k + 1)]
    skin += [("self", k, j) for k in range(1, n + 1) for j in sorted({0, k})]
    lung = [("random", 0, 0)] + [(init, n, 0) for init in CHAIN]
    lung += [("imagenet-ham10000", n, j) for j in (2, 5)]
    return [("ham10000", *c) for c in skin] + [("lung", *c) for c in lung]


def compute_target(dataset: str, init: str, k: int, j: int) -> float:
    """Return the test balanced accuracy that a cell is made to have."""
    base = BASES[dataset]
    if init == "random":
        return base - FILTERS[j]
    if init == "self":
        return base + (0.004 if j == 0 else -COADAPTED[j])
    boost = BOOST[k] if dataset == "ham10000" else CHAIN[init]
    coadapted = COADAPTED[j] if k == j else 0.0
    return base + boost - COST[j] - coadapted


def write_runs(outputs: Path, *, n_seeds: int = 3) -> None:
    """Write a finished run folder for every cell and seed, one failed and one stopped."""
    draws = {name: Draw(name) for name in COUNTS}
    for dataset, init, k, j in list_cells():
        for seed in SEEDS[:n_seeds]:
            write_run(outputs, draws[dataset], init, k, j, seed)
    for j, name in enumerate(("FAILED", "")):
        folder = write_run(outputs, draws["ham10000"], SOURCE, len(UNITS), j, 7)
        for left in ("DONE", "summary.json", "predictions.parquet"):
            (folder / left).unlink()
        lines = (folder / "metrics.jsonl").read_text().splitlines()[:3]
        (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
        if name:
            (folder / name).write_text("Diverged: the loss is not finite\n")


def _lesion(n: int) -> int:
    """Return the lesion of the n-th image of a class: every fourth image shares one."""
    return n - (n % 4 == 3)


class Draw:
    """The images of a dataset, and logits of any quality for them."""

    def __init__(self, name: str) -> None:
        self.name, self.classes = name, tuple(COUNTS[name])
        rng = np.random.default_rng(len(name))
        parts = {"test": 1.0, "val": 0.5}
        rows = [
            (split, f"{name.upper()}_{split}_{i}_{n:04d}", f"{split}_{i}_{_lesion(n)}", i)
            for split, part in parts.items()
            for i, count in enumerate(COUNTS[name].values())
            for n in range(max(4, int(count * part)))
        ]
        self.table = pd.DataFrame(rows, columns=["split", "image_id", "group", "label"])
        n_classes = len(self.classes)
        self.pull = 0.25 * rng.random((n_classes, n_classes)) + np.eye(n_classes)
        if "mel" in self.classes:
            mel, nv, bkl = (self.classes.index(c) for c in ("mel", "nv", "bkl"))
            self.pull[mel, [nv, bkl]] = self.pull[[nv, bkl], mel] = 0.55
        self.shared = rng.normal(size=(len(self.table), n_classes))

    def make_logits(self, level: float | np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return (N, K) logits; runs share most of what makes an image hard."""
        labels = self.table["label"].to_numpy()
        noise = 0.9 * self.shared + 0.8 * own
        logits = np.reshape(level, (-1, 1)) * self.pull[labels] + noise
        return (1.15 * (logits - logits.mean(axis=1, keepdims=True))).astype(np.float32)

    def draw(self, targets: dict[str, float], rng: np.random.Generator) -> np.ndarray:
        """Return logits that have about the wanted balanced accuracy on every split."""
        own = rng.normal(size=self.shared.shape)
        levels = np.linspace(0.0, 6.0, 40)
        tried = [self.make_logits(level, own) for level in levels]
        chosen = np.zeros(len(self.table))
        for split, target in targets.items():
            at = (self.table["split"] == split).to_numpy()
            reached = [self._score(logits, at) for logits in tried]
            chosen[at] = np.interp(target, np.maximum.accumulate(reached), levels)
        return self.make_logits(chosen, own)

    def _score(self, logits: np.ndarray, at: np.ndarray) -> float:
        labels = self.table["label"].to_numpy()[at]
        hits = logits[at].argmax(axis=1) == labels
        return float((np.bincount(labels, weights=hits) / np.bincount(labels)).mean())


def write_run(outputs: Path, draw: Draw, init: str, k: int, j: int, seed: int) -> Path:
    """Write one finished run folder and return it."""
    cell = f"{draw.name}-{MODEL}-{init}-k{k}-j{j}"
    number = sum(ord(letter) * (i + 1) for i, letter in enumerate(cell))
    rng = np.random.default_rng([number, seed])
    run_id = f"{number:06x}{seed:06x}"
    folder = outputs / "runs" / f"{cell}-s{seed}-{run_id}"
    folder.mkdir(parents=True)
    target = compute_target(draw.name, init, k, j)
    luck = rng.normal(0, [0.011, 0.015])
    logits = draw.draw({"test": target + luck[0], "val": target + 0.004 + luck[1]}, rng)
    metrics = _score_splits(draw, logits)
    plan = make_plan_record(draw, init, k, j, seed, run_id, f"{number:012x}")
    history = make_history(metrics["val/balanced_accuracy"], init, j, rng)
    best = max(history, key=lambda r: r["val/balanced_accuracy"])["epoch"]
    summary = {"run_id": run_id, "best_epoch": best, "epochs": EPOCHS, "steps": EPOCHS * STEPS}
    summary |= {"metrics": metrics, "train_s": 60.0 - 6 * j, "images_per_s": 900.0 + 120 * j}
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in history))
    (folder / "summary.json").write_text(json.dumps(summary))
    columns = {f"logit/{name}": logits[:, i] for i, name in enumerate(draw.classes)}
    draw.table.assign(**columns).to_parquet(folder / "predictions.parquet", index=False)
    RunDir(folder).write_done(run_id)
    return folder


def _score_splits(draw: Draw, logits: np.ndarray) -> dict[str, float]:
    labels = draw.table["label"].to_numpy()
    val, test = ((draw.table["split"] == split).to_numpy() for split in ("val", "test"))
    told = compute_selection("multi-class", logits[val], labels[val])
    scores = compute_metrics(
        "multi-class", compute_softmax(logits[test]), labels[test], classes=draw.classes
    )
    return {f"val/{k}": v for k, v in told.items()} | {f"test/{k}": v for k, v in scores.items()}


def make_history(
    final: float, init: str, j: int, rng: np.random.Generator
) -> list[dict[str, float]]:
    """Return one record an epoch; transferred and frozen networks rise sooner."""
    pace = 3.5 if init == "random" else 1.6
    records = []
    for epoch in range(1, EPOCHS + 1):
        rise = 1 - np.exp(-epoch / pace)
        score = 0.15 + (final - 0.15) * rise + rng.normal(0, 0.01) * (epoch < EPOCHS)
        records.append(
            {
                "epoch": epoch,
                "step": epoch * STEPS,
                "lr": 1e-3 * (1 - epoch / EPOCHS),
                "train/loss": float(2.0 * np.exp(-epoch / 4) + 0.3),
                "val/balanced_accuracy": float(score),
                "val/accuracy": float(score + 0.05),
                "val/nll": float(2.0 - 1.4 * rise),
                "train_s": 5.0 - 0.5 * j,
                "images_per_s": 900.0 + 120 * j,
            }
        )
    return records


def make_plan_record(
    draw: Draw, init: str, k: int, j: int, seed: int, run_id: str, cell_id: str
) -> dict:
    """Return what plan.json holds of a run."""
    counts = {name: int(n) for name, n in COUNTS[draw.name].items()}
    units = [
        {"unit": unit, "modules": unit, "n_params": 1000 * 4**n, "stride": 2 ** (n + 1)}
        | {"weights": init if n < k else "fresh", "frozen": n < j}
        for n, unit in enumerate(UNITS)
    ]
    settings = {"dataset.name": draw.name, "dataset.image_size": 64, "dataset.split_seed": 0}
    settings |= {"train.class_weights": "balanced", "train.effective_beta": 0.999}
    settings |= {"train.epochs": EPOCHS, "train.lr": 0.001, "init.source": init}
    return {
        "run_id": run_id,
        "run_name": f"{draw.name}-{MODEL}-{init}-k{k}-j{j}-s{seed}",
        "cell_id": cell_id,
        "identity": {"dataset": {"manifest": "fe" * 32}, "seed": seed},
        "dataset": draw.name,
        "model": MODEL,
        "source": init.split("-"),
        "ancestry": [],
        "k": k,
        "j": j,
        "bn": "frozen",
        "seed": seed,
        "units": units,
        "classes": list(draw.classes),
        "task": "multi-class",
        "positive": None,
        "split_sizes": {"train": counts, "val": counts, "test": counts},
        "steps_per_epoch": STEPS,
        "epochs": EPOCHS,
        "settings": settings,
    }


# ---- tables -------------------------------------------------------------------------------------


def name_cell(cell: dict) -> str:
    """Return the label of a cell."""
    k, j, n = cell["k"], cell["j"], len(UNITS)
    source = SOURCE_NAMES[cell["init"]] if k else "random"
    source += f" through {UNITS[k - 1]}" if 0 < k < n else ""
    frozen = "all trained" if j == 0 else "all frozen" if j == n else ""
    return f"{source}, {frozen or f'frozen through {UNITS[j - 1]}'}"


def make_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `Content.cells`: the intervals join seeds and a typical 1.5 points of test images."""
    keys = ["dataset", "model", "init", "k", "j", "bn"]
    done = runs[runs["state"] == "done"]
    rows = []
    for key, group in done.groupby(keys, sort=False):
        row = dict(zip(keys, key, strict=True)) | {"cell": group["cell_id"].iloc[0]}
        row |= {"units": UNITS, "recipe": "", "seeds": [int(seed) for seed in group["seed"]]}
        row |= {"n_seeds": len(group), "run_ids": list(group["run_id"])}
        row |= {"label": name_cell(row), "source": SOURCE_NAMES[row["init"]]}
        row |= {"folders": list(group["folder"])}
        for metric in (METRIC, *METRICS, "val/balanced_accuracy"):
            scores = group[metric].to_numpy()
            sd = float(scores.std(ddof=1)) if len(scores) > 1 else float("nan")
            half = 2.2 * np.sqrt(sd**2 / len(scores) + 0.015**2 / (1 + 2 * (len(scores) > 1)))
            row |= {metric: scores.mean(), f"{metric} sd": sd}
            row |= {f"{metric} low": scores.mean() - half, f"{metric} high": scores.mean() + half}
        row["note"] = "" if len(group) > 1 else "one seed: the interval leaves out seeds"
        rows.append(row)
    return pd.DataFrame(rows).reset_index(drop=True)


def find_cell(cells: pd.DataFrame, dataset: str, init: str, k: int, j: int) -> pd.Series:
    """Return the row of a cell."""
    at = (cells["dataset"] == dataset) & (cells["init"] == init)
    return cells[at & (cells["k"] == k) & (cells["j"] == j)].iloc[0]


def make_grid(cells: pd.DataFrame, dataset: str, init: str) -> Grid:
    """Return the grid of one source; random is its k = 0."""
    at = (cells["dataset"] == dataset) & (cells["j"] <= cells["k"])
    picked = cells[at & cells["init"].isin(["random", init])]
    names = {METRIC: "value", f"{METRIC} low": "low", f"{METRIC} high": "high"}
    table = picked.rename(columns=names | {"val/balanced_accuracy": "val"})
    columns = ["k", "j", "value", "low", "high", "n_seeds", "val", "cell", "label"]
    table = table[columns].sort_values(["k", "j"], ignore_index=True)
    best = str(table.loc[table["val"].idxmax(), "cell"])
    name = SOURCE_NAMES[init]
    return Grid(dataset, MODEL, init, METRIC, UNITS, table, best, source_name=name)


def make_layers(cells: pd.DataFrame) -> LayerScores:
    """Return the layer scores of ham10000, from its cells."""
    arms = {
        "AnB": (SOURCE, True, True),
        "AnB+": (SOURCE, True, False),
        "BnB": ("self", True, True),
        "BnB+": ("self", True, False),
        "random-frozen": ("random", False, True),
    }
    full = find_cell(cells, "ham10000", SOURCE, len(UNITS), 0)
    found = {("base", 0): find_cell(cells, "ham10000", "random", 0, 0), ("full", 0): full}
    for n in range(1, len(UNITS) + 1):
        found["frozen", n] = find_cell(cells, "ham10000", SOURCE, len(UNITS), n)
    for arm, (init, moved, frozen) in arms.items():
        for n in range(1, len(UNITS) + 1):
            found[arm, n] = find_cell(cells, "ham10000", init, n * moved, n * frozen)
    curves = pd.DataFrame(
        [
            (arm, n, c[METRIC], c[f"{METRIC} low"], c[f"{METRIC} high"], c["n_seeds"])
            for (arm, n), c in found.items()
        ],
        columns=["arm", "n", "value", "low", "high", "n_seeds"],
    )
    means = {key: float(c[METRIC]) for key, c in found.items()}
    scores = pd.DataFrame([_make_score(means, n) for n in range(1, len(UNITS) + 1)])
    name = SOURCE_NAMES[SOURCE]
    place = ("ham10000", MODEL, SOURCE, METRIC, UNITS)
    more = {
        "source_name": name,
        "image_ratio": 183.0,
        "margin_note": "The margin δ is 1.0 points.",
    }
    return LayerScores(*place, curves, scores, MARGIN, **more)


def _make_score(means: dict[tuple[str, int], float], n: int) -> dict:
    base, random = means["base", 0], means["random-frozen", n]
    a, b, a_plus, b_plus = (means[arm, n] for arm in ("AnB", "BnB", "AnB+", "BnB+"))
    gap = b - random
    row: dict = {"n": n, "unit": UNITS[n - 1]}
    for name, value, half in (
        ("F", means["full", 0] - means["frozen", n], 0.006 + 0.005 * n),
        ("C", base - b, 0.012),
        ("S", b - a, 0.008 + 0.003 * n),
        ("G", a_plus - b_plus, 0.011),
        ("gamma", (a - random) / gap if gap > 0.03 else float("nan"), 0.15),
    ):
        row |= {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
    low, high = row["F_low"], row["F_high"]
    row["verdict"] = "general" if high < MARGIN else "specific" if low > MARGIN else "undetermined"
    row |= {"margin": MARGIN, "image_ratio": 183.0}
    row |= dict.fromkeys(("S_control", "S_control_low", "S_control_high"), float("nan"))
    row["note"] = "" if gap > 0.03 else "gamma: random filters do as well"
    return row


def make_comparisons(cells: pd.DataFrame) -> pd.DataFrame:
    """Return `Content.comparisons` of a few pairs that the proposal asks about."""
    n = len(UNITS)
    pairs = [
        ("ham10000", "imagenet vs random", (SOURCE, n, 0), ("random", 0, 0)),
        ("ham10000", "freezing", (SOURCE, n, 2), (SOURCE, n, 0)),
        ("ham10000", "freezing", (SOURCE, n, n), (SOURCE, n, 0)),
        ("lung", "chain", ("imagenet-ham10000", n, 0), ("imagenet", n, 0)),
        ("lung", "chain", ("imagenet-ham10000", n, 0), ("random", 0, 0)),
        ("lung", "chain", ("random-ham10000", n, 0), ("random", 0, 0)),
    ]
    rows = []
    for dataset, family, first, second in pairs:
        a, b = find_cell(cells, dataset, *first), find_cell(cells, dataset, *second)
        delta, half = a[METRIC] - b[METRIC], 0.028
        p = float(min(1.0, 2 * np.exp(-2.2 * abs(delta) / half)))
        inconclusive = "equivalent" if abs(delta) < 0.002 else "inconclusive"
        rows.append(
            {"a": a["cell"], "b": b["cell"], "a_label": a["label"], "b_label": b["label"]}
            | {"family": family, "dataset": dataset, "delta": delta}
            | {"low": delta - half, "high": delta + half, "p": p, "p_holm": min(1.0, 2 * p)}
            | {"p_swap": p / 2, "p_seed": p, "p_equivalent": 1 - p, "margin": MARGIN}
            | {"verdict": ("better" if delta > 0 else "worse") if 2 * p < 0.05 else inconclusive}
            | {"detectable": 0.035, "n_seeds": a["n_seeds"], "note": ""}
        )
    return pd.DataFrame(rows)


def make_findings(
    cells: pd.DataFrame, comparisons: pd.DataFrame, grids: tuple[Grid, ...]
) -> tuple[Finding, ...]:
    """Return one finding a question, of every verdict's kind."""
    first = comparisons.iloc[0]
    best = cells.set_index("cell").loc[grids[0].best]
    return (
        Finding(
            "imagenet_vs_random",
            "Do ImageNet weights beat random ones on ham10000?",
            "yes" if first["verdict"] == "better" else str(first["verdict"]),
            f"Balanced accuracy is {100 * first['delta']:.1f} points higher with all five units "
            f"from ImageNet (95 % interval {100 * first['low']:.1f} to "
            f"{100 * first['high']:.1f}, 3 seeds).",
            ("It rests on runs whose fresh units are the same draw.",),
            "ham10000",
            (0,),
        ),
        Finding(
            "best_cell",
            "Which transfer and freeze is best on ham10000?",
            str(best["label"]),
            f"{best['label']} is best on validation; on test it has {best[METRIC]:.3f}.",
            ("It was chosen on validation, so its test score is honest.",),
            "ham10000",
            (1, 2),
        ),
        Finding(
            "chain",
            "Does going through ham10000 help on lung?",
            "inconclusive",
            "The interval of the difference holds zero.",
            ("With nine seeds a true difference of 1 point is found in 80 % of studies.",),
            "lung",
            (3, 4, 5),
            is_open=True,
        ),
        Finding(
            "layers",
            "Which units are general, and which specific?",
            "not measured",
            "lung has no selffer runs.",
            ("python -m tlcnn.train -m experiment=layers dataset=lung",),
            "lung",
            is_measured=False,
        ),
    )


def make_highlights(
    cells: pd.DataFrame, grids: tuple[Grid, ...]
) -> tuple[tuple[str, str, str], ...]:
    """Return the random, best, full and frozen cell of each dataset."""
    found = []
    for grid in grids:
        name, n = SOURCE_NAMES[grid.init], len(UNITS)
        named = [
            ("random", str(find_cell(cells, grid.dataset, "random", 0, 0)["cell"])),
            (f"{name}, best", grid.best),
            (name, str(find_cell(cells, grid.dataset, grid.init, n, 0)["cell"])),
            (f"{name}, all frozen", str(find_cell(cells, grid.dataset, grid.init, n, n)["cell"])),
        ]
        found += [(grid.dataset, role, cell) for role, cell in named]
    return tuple(found)
