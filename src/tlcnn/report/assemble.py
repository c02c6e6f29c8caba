"""From runs to what a report says: cells, arms, comparisons, answers, grids, layer scores."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import pandas as pd

from tlcnn.errors import ConfigError, did_you_mean, list_names
from tlcnn.records.left_out import describe_left_out
from tlcnn.report.content import Content, Finding, Grid, LayerScores
from tlcnn.report.provenance import make_provenance
from tlcnn.statistics.arm import Arm, Comparison
from tlcnn.statistics.comparison import adjust_holm, compare_arms
from tlcnn.statistics.metrics import is_lower_better
from tlcnn.study import questions
from tlcnn.study.block import Block, find_best, is_at_chance, list_grid
from tlcnn.study.cells import list_unplaced, make_cells, name_source
from tlcnn.study.layers import compute_layer_scores, list_treatments, make_curves
from tlcnn.study.questions import Answer, LayerTable
from tlcnn.study.scores import estimate_cell, load_arms

PRIMARY = "test/balanced_accuracy"
METRICS = (PRIMARY, "test/macro_auroc", "test/accuracy", "test/nll")

ASSUMPTIONS = (
    "Seeds are drawn at random: a run's seed decides its fresh weights, order and views, and "
    "nothing else differs between the runs of one cell.",
    "Test groups (lesions, source tiles) are drawn at random within each class, as many as there "
    "are; the intervals speak of new groups of the same mix of classes.",
    "An interval is Student's t over the variance between seeds and the variance that test groups "
    "share between seeds (a bootstrap over groups, class by class).",
    "A difference is paired by seed and test group. Its p is the larger of a sign-flip "
    "permutation over groups (these networks, new lesions) and a t test with both variances (new "
    "seeds too), adjusted by Holm within its family.",
    "Folds share training images: their intervals are widened (Nadeau and Bengio 2003).",
    "“Equivalent” needs two one-sided tests at 5 % within the margin. “Inconclusive” is a result: "
    "neither a difference nor its absence is shown.",
    "The split, the recipe and the source weights are held fixed; nothing is said of others.",
)


def make_content(
    runs: pd.DataFrame,
    *,
    metric: str = PRIMARY,
    metrics: Sequence[str] = METRICS,
    margin: float = 0.01,
    title: str = "Transfer learning study",
) -> Content:
    """Return what a report on these runs says.

    Args:
        runs: of `read_runs`, in any state; the finished ones are compared.
        metric: what cells are judged by, higher is better.
        metrics: further metrics of the table of cells.
        margin: of equivalence and of the layers' verdicts, in units of the metric.

    Raises:
        ConfigError: no finished run has the metric, or less of it is better.
    """
    _check_metric(metric, runs)
    cells = make_cells(runs).set_index("cell", drop=False)
    metrics = [name for name in dict.fromkeys([metric, *metrics]) if name in runs]
    arms = load_arms(cells, metrics, runs)
    blocks = _make_blocks(cells, runs, arms.get(metric, {}), metric)
    _compare(blocks, margin)
    layers = [scores for block in blocks for scores in _score_layers(block, margin)]
    return Content(
        title=title,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        metric=metric,
        metrics=tuple(metrics),
        runs=runs,
        left_out=tuple(
            [
                *describe_left_out(runs),
                *list_unplaced(runs),
                *_tell_unscored(cells, blocks, metric),
            ]
        ),
        cells=_tabulate_cells(cells, arms, blocks),
        comparisons=_tabulate_comparisons(blocks),
        findings=tuple(_make_findings(blocks, layers)),
        grids=tuple(_make_grids(blocks)),
        layers=tuple(layers),
        highlights=tuple(_list_highlights(blocks)),
        provenance=make_provenance(runs, cells),
        assumptions=ASSUMPTIONS,
    )


def _check_metric(metric: str, runs: pd.DataFrame) -> None:
    known = [name for name in runs.columns if name.startswith("test/")]
    higher = [name for name in known if not is_lower_better(name)]
    if known and metric not in higher:
        why = "less of it is better" if metric in known else "no finished run has it"
        raise ConfigError(
            f"a report cannot judge by {metric}: {why}.{did_you_mean(metric, higher)} There are: "
            f"{list_names(higher, 8)}"
        )


def _make_blocks(
    cells: pd.DataFrame, runs: pd.DataFrame, arms: Mapping[str, Arm], metric: str
) -> list[Block]:
    val = _mean_by_cell(cells, runs, metric.replace("test/", "val/", 1))
    scored = cells[cells["cell"].isin(list(arms))]
    blocks = []
    for key, inside in scored.groupby(["dataset", "model", "recipe"], sort=True):
        dataset, model, recipe = (str(part) for part in key)
        kept = {cell: arms[cell] for cell in inside["cell"]}
        blocks.append(Block(dataset, model, recipe, metric, inside, kept, val))
    return blocks


def _mean_by_cell(cells: pd.DataFrame, runs: pd.DataFrame, metric: str) -> dict[str, float]:
    if metric not in runs:
        return dict.fromkeys(cells["cell"], float("nan"))
    values = runs[runs["state"] == "done"].drop_duplicates("folder").set_index("folder")[metric]
    return {
        cell["cell"]: float(values.loc[[f for fold in cell["folders"] for f in fold]].mean())
        for cell in cells.to_dict("records")
    }


def _tell_unscored(cells: pd.DataFrame, blocks: Iterable[Block], metric: str) -> list[str]:
    """Say which cells are in no comparison, and of which seeds are left out."""
    scored = {cell for block in blocks for cell in block.arms}
    lines = []
    for cell in cells.to_dict("records"):
        name, missing = f"{cell['dataset']}: {cell['label']}", cell["missing"]
        if cell["cell"] not in scored:
            why = missing or f"not every run has {metric}"
            lines.append(f"cell in no comparison ({why}): {name}")
        elif missing:
            lines.append(f"{missing} and are left out: {name}")
    return lines


# ---- comparisons and answers --------------------------------------------------------------------


def _compare(blocks: Sequence[Block], margin: float) -> None:
    """Fill every block's `compared`, adjusted within families that span the report."""
    places, found = [], []
    for block in blocks:
        for family, a, b in questions.list_pairs(block):
            # the exploratory family is each block's own; the declared ones span the report
            named = family if family != questions.DEPTH else f"{family}: {block.place}"
            places.append((block, (family, a, b)))
            compared = compare_arms(block.arms[a], block.arms[b], margin=margin, family=named)
            found.append(compared)
    for (block, key), comparison in zip(places, adjust_holm(found), strict=True):
        block.compared[key] = comparison


def _make_findings(blocks: Sequence[Block], layers: Sequence[LayerScores]) -> list[Finding]:
    answers: list[Answer | None] = [
        questions.answer_transfer(block, source)
        for block in blocks
        for source in questions.list_asked(block)
    ]
    answers += [questions.answer_best(b, source) for b in blocks for source in b.sources]
    answers += [answer for block in blocks for answer in questions.answer_chains(block)]
    for scores in layers:
        place = next(b.place for b in blocks if _is_of(scores, b))
        table = LayerTable(scores.scores, scores.source, scores.metric, scores.margin)
        answers.append(questions.answer_layers(table, place))
    numbers = _number_pairs(blocks)
    told = [_make_finding(answer, numbers) for answer in answers if answer is not None]
    asked = {finding.key for finding in told}
    missing = [Finding(**m) for m in questions.UNMEASURED if m["key"] not in asked]
    order = [question["key"] for question in questions.UNMEASURED]
    return sorted([*told, *missing], key=lambda finding: order.index(finding.key))


def _make_finding(answer: Answer, numbers: Mapping[tuple[str, str, str], int]) -> Finding:
    return Finding(
        answer.key,
        answer.question,
        answer.verdict,
        answer.answer,
        answer.details,
        answer.dataset,
        tuple(numbers[pair] for pair in answer.pairs),
    )


def _number_pairs(blocks: Iterable[Block]) -> dict[tuple[str, str, str], int]:
    return {key: number for number, (_, key) in enumerate(_list_compared(blocks))}


def _list_compared(blocks: Iterable[Block]) -> list[tuple[Block, tuple[str, str, str]]]:
    """Return every pair that was compared: those of the questions first."""
    pairs = [(block, key) for block in blocks for key in block.compared]
    return sorted(pairs, key=lambda pair: pair[1][0] == questions.DEPTH)


def _tabulate_comparisons(blocks: Iterable[Block]) -> pd.DataFrame:
    rows = [
        {
            "a": a,
            "b": b,
            "a_label": block.label(a),
            "b_label": block.label(b),
            "family": family,
            "dataset": block.dataset,
            "model": block.model,
            **_spread(block.compared[family, a, b]),
        }
        for block, (family, a, b) in _list_compared(blocks)
    ]
    return pd.DataFrame(rows, columns=[*_COMPARED])


_COMPARED = (
    *("a", "b", "a_label", "b_label", "family", "dataset", "model", "delta", "low", "high"),
    *("p", "p_holm", "p_swap", "p_seed", "p_equivalent", "margin", "verdict", "seeds_needed"),
    *("n_seeds", "note"),
)


def _spread(found: Comparison) -> dict[str, Any]:
    told = {name: getattr(found, name) for name in _COMPARED[10:] if hasattr(found, name)}
    delta = found.delta
    if found.verdict != "inconclusive":
        told["seeds_needed"] = float("nan")  # it is settled
    ends = {"delta": delta.value, "low": delta.low, "high": delta.high}
    return {**told, **ends, "n_seeds": delta.n_seeds, "note": delta.note}


# ---- tables and grids ---------------------------------------------------------------------------


def _tabulate_cells(
    cells: pd.DataFrame, arms: Mapping[str, Mapping[str, Arm]], blocks: Sequence[Block]
) -> pd.DataFrame:
    table = cells.reset_index(drop=True)
    notes: dict[str, str] = {}
    for metric, scored in arms.items():
        found = {cell: estimate_cell(arm, metric) for cell, arm in scored.items()}
        notes = {cell: estimate.note for cell, estimate in found.items()} | notes
        for suffix, part in (("", "value"), (" low", "low"), (" high", "high")):
            values = {cell: getattr(estimate, part) for cell, estimate in found.items()}
            table[f"{metric}{suffix}"] = table["cell"].map(values).astype(float)
        spread = {cell: pd.Series(arm.scores).std(ddof=1) for cell, arm in scored.items()}
        table[f"{metric} sd"] = table["cell"].map(spread).astype(float)
    notes = {
        cell: "; ".join(filter(None, [note, _find_chance(cell, blocks)]))
        for cell, note in notes.items()
    }
    return table.assign(note=[notes.get(cell, "") for cell in table["cell"]])


def _find_chance(cell: str, blocks: Sequence[Block]) -> str:
    here = [block for block in blocks if cell in block.arms]
    return "no better than guessing" if here and is_at_chance(here[0], cell) else ""


def _make_grids(blocks: Iterable[Block]) -> Iterable[Grid]:
    for block in blocks:
        for source in block.sources:
            inside = list_grid(block, source)
            best = find_best(block, source)
            if len(inside) < 3 or best is None:
                continue
            rows = [_tell_point(block, cell) for cell in inside.to_dict("records")]
            units = max(inside["units"], key=len)
            yield Grid(
                *(block.dataset, block.model, source, block.metric, units),
                pd.DataFrame(rows).sort_values(["k", "j"], ignore_index=True),
                best,
                block.recipe,
            )


def _tell_point(block: Block, cell: Mapping[Any, Any]) -> dict[str, Any]:
    found = estimate_cell(block.arms[cell["cell"]], block.metric)
    return {
        "k": int(cell["k"]),
        "j": int(cell["j"]),
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n_seeds": found.n_seeds,
        "val": block.val[cell["cell"]],
        "cell": cell["cell"],
        "label": cell["label"],
    }


def _score_layers(block: Block, margin: float) -> Iterable[LayerScores]:
    owns = block.list_starts("self")
    for source, own in [(s, o) for s in block.sources for o in owns]:
        treated = list_treatments(block.cells, source, own)
        arms = {key: block.arms[cell] for key, cell in treated.items()}
        if not {"AnB", "BnB"} <= {name for name, _ in arms}:
            continue
        units = max(block.cells["units"], key=len)
        told = ", ".join(filter(None, [block.recipe, own.removeprefix("self").strip(" ()")]))
        yield LayerScores(
            *(block.dataset, block.model, source, block.metric, units),
            make_curves(arms, block.metric),
            compute_layer_scores(arms, units, margin=margin),
            margin,
            told,
        )


def _is_of(scores: LayerScores, block: Block) -> bool:
    mine = (scores.dataset, scores.model)
    return mine == (block.dataset, block.model) and scores.recipe.startswith(block.recipe)


def _list_highlights(blocks: Iterable[Block]) -> Iterable[tuple[str, str, str]]:
    """Name the cells that stand for a dataset: best, full fine-tuning, all frozen, random, ..."""
    seen = set()
    for block in blocks:
        named = [("random", block.scratch)]
        for source in block.sources:
            told = name_source(source)
            best = find_best(block, source)
            named += [(f"{told}, best", best)] if source in questions.list_asked(block) else []
            named += [(told, block.find_full(source))]
            named += [(f"{told}, all frozen", block.find(source, block.n_units, block.n_units))]
        for role, cell in named:
            if cell and cell not in seen:
                seen.add(cell)
                yield block.dataset, role, cell
