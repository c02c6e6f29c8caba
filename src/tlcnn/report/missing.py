"""Which runs a question lacks, and the command that trains them."""

import shlex
from collections.abc import Iterable, Sequence

from tlcnn.config.spelling import write_command
from tlcnn.report.content import Finding
from tlcnn.report.reproduce import find_commands
from tlcnn.report.words import join_words, name_block, name_dataset, name_source
from tlcnn.study.answers import CHAIN_START, MissingCells, Question, Unmeasured
from tlcnn.study.block import Block
from tlcnn.study.cells import Cell

_UNMEASURED: dict[Question, tuple[str, str, str]] = {
    "imagenet_vs_random": (
        "Does ImageNet beat random weights?",
        "On no dataset were networks trained from a source and from random weights by one recipe.",
        "`python -m tlcnn.train -m init=imagenet,random seed=0,1,2`",
    ),
    "best_cell": (
        "Which layers to transfer and which to freeze?",
        "On no dataset are there three cells of one source to choose from.",
        "`python -m tlcnn.train experiment=grid`",
    ),
    "chain": (
        "Does {} help a second dataset more than ImageNet?",
        "On no dataset were networks fine-tuned both from ImageNet and from a network that was "
        "trained on another dataset of yours.",
        "`python -m tlcnn.train experiment=proposal`, or, for any two datasets, `python -m "
        "tlcnn.train -m dataset=TARGET init=imagenet,task init.task=SOURCE seed=0,1,2`",
    ),
    "layers": (
        "Which layers are general, which specific?",
        "It takes runs that transfer all units of a source and freeze the first n of them, with "
        "n = 0 among them; or runs that freeze the first n units of the source and of the "
        "network's own weights (AnB and BnB), with the same n.",
        "`python -m tlcnn.train experiment=grid`",
    ),
}
Points = tuple[tuple[int, int], ...]  # (k, j) of each cell


def write_unmeasured(answer: Unmeasured) -> Finding:
    """Return a question that no run answers, and what to train for it."""
    question, reason, command = _UNMEASURED[answer.question]
    details = write_missing(answer.missing) or [f"Train them: {command}."]
    blocks = [cells.block for cells in answer.missing]
    helpers = [d for b in blocks for s in b.chains for d in s.datasets if d != b.dataset]
    question = question.format(name_dataset(next(iter(helpers), CHAIN_START)))
    parts = (answer.question, question, "not measured", reason, tuple(details))
    return Finding(*parts, is_measured=False)


def write_missing(missing: Iterable[MissingCells]) -> list[str]:
    """Return sentences on which cells are missing, and how to train them with one command.

    Sources that lack the same cells share a sentence, and the command where they can.
    """
    groups: dict[tuple[int, Points], list[MissingCells]] = {}
    for cells in missing:
        groups.setdefault((id(cells.block), cells.points), []).append(cells)
    sentences = []
    for (_, points), group in groups.items():
        block, inits = group[0].block, [cells.init for cells in group]
        places = join_words([f"({k}, {j})" for k, j in points])
        names = {s.init: name_source(s) for s in (*block.sources, *block.own_sources)}
        sources = join_words([names.get(init, name_dataset(init)) for init in inits])
        what = f"Missing on {name_block(block)}: runs from {sources} with (k, j) = {places}."
        if any(cell.searched for cell in block.cells.values()):
            sentences.append(
                f"{what} Add them to the words of the search as further arms, and repeat it with "
                "study=NAME: what is trained is not trained again."
            )
            continue
        starts = [_find_words(block, init) for init in inits]
        gap = ""
        if not all(shared for shared, _ in starts):
            gap = " (no command of a run is recorded: add what else its recipe sets)"
            recipe = [f"{key}={value}" for key, value in block.recipe]
            start = [f"dataset={block.dataset}", f"model.name={block.model}", *recipe]
            starts = [(start, [f"init={init}"]) for init in inits]
        tuned = _list_tuned(block)
        starts = [
            ([w for w in shared if w.partition("=")[0] not in block.tuned] + tuned, source)
            for shared, source in starts
        ]
        if starts == [(starts[0][0], [f"init={init}"]) for init in inits]:
            starts = [(starts[0][0], [f"init={','.join(inits)}"])]
        commands = [
            write_command(["python", "-m", "tlcnn.train", "-m", *shared, *source])
            + f" {_write_points(block, points)} seed={_list_seeds(block)}"
            for shared, source in starts
        ]
        listed = "; ".join(f"`{command}`" for command in commands)
        sentences.append(f"{what} Train them{gap}: {listed}")
    return sentences


def _find_words(block: Block, init: str) -> tuple[list[str], list[str]]:
    """Return the words for a block's dataset, model and recipe, and those for a source.

    They are the words of a run of the block, and of that source where it was trained. There are
    none where no command of such a run is recorded.
    """
    cells = sorted(block.cells.values(), key=lambda cell: cell.init != init)
    commands = find_commands(cell.runs[0].folder for cell in cells)
    for cell in cells:
        overrides = shlex.split(commands.get(cell.runs[0].folder, ""))[3:]
        if overrides and "-m" not in overrides:
            shared, source = _split_overrides(overrides, cell)
            return shared, source if cell.init == init and source else [f"init={init}"]
    return [], []


def _split_overrides(overrides: Sequence[str], cell: Cell) -> tuple[list[str], list[str]]:
    """Return a run's words without its seed, fold and point, and those for its source."""
    shared, source = [], []
    for word in overrides:
        group, _, name = word.lstrip("+").partition("=")[0].partition(".")
        if group == "init" and name != "through":
            source.append(word)
        elif word.startswith(("dataset.fold=", "dataset.split_seed=")) and cell.places:
            values = {place[name == "fold"] for place in cell.places}
            shared.append(f"dataset.{name}={','.join(map(str, sorted(values)))}")
        elif group not in ("init", "freeze", "seed", "hydra", "dry_run"):
            shared.append(word)
    if any(word.startswith("experiment=") for word in shared):
        shared.append("hydra.sweeper.blocks=[]")  # else its file asks for its own cells
    return shared, source


def _write_points(block: Block, points: Points) -> str:
    """Return the words for cells of one k, or for cells that freeze what they transfer."""
    names = dict(enumerate(block.units, start=1)) | {0: "none", block.n_units: "all"}
    through = [names.get(k, str(k)) for k in dict.fromkeys(k for k, _ in points)]
    frozen = [names.get(j, str(j)) for _, j in points] if len(through) == 1 else ["transferred"]
    return f"init.through={','.join(through)} freeze.through={','.join(frozen)}"


def _list_tuned(block: Block) -> list[str]:
    """Return the words for all values that were tried of each tuned setting."""
    tried = [c.tuning.tried.values() for c in block.cells.values() if c.tuning]
    pairs = {pair: None for recipes in tried for recipe in recipes for pair in recipe}
    return [
        f"{key}={','.join(str(value) for name, value in pairs if name == key)}"
        for key in block.tuned
    ]


def _list_seeds(block: Block) -> str:
    """Return the seeds of the cell that has most, which the missing cells are paired with."""
    seeds = max([cell.seeds for cell in block.cells.values()], key=len)
    return ",".join(map(str, seeds))
