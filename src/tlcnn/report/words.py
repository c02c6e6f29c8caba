"""Names in words: datasets, sources, cells, metrics."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import PurePath

from tlcnn.records.settings import is_default
from tlcnn.statistics.metrics import parse_metric
from tlcnn.study.block import Best, Block
from tlcnn.study.cells import Cell, Settings, Source
from tlcnn.study.finetuning import drop_untreated, list_treatments
from tlcnn.study.held_out import find_hold_out

_DATASETS = {"imagenet": "ImageNet", "ham10000": "HAM10000", "lc25000_lung": "LC25000 lung"}
_UNSEARCHED = "nothing searched"

# What the classes of published datasets are abbreviated to.
_CLASSES = {
    "akiec": "actinic keratosis or Bowen's disease",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic naevus",
    "vasc": "vascular lesion",
    "lung_aca": "adenocarcinoma of the lung",
    "lung_n": "benign lung tissue",
    "lung_scc": "squamous cell carcinoma of the lung",
}

_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_auroc": "macro AUROC",
    "macro_f1": "macro F1",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "ece": "calibration error",
}
# What is compared with the margin of layers: differences of mean scores, by their letter.
GAP_NAMES = {"F": "freezing cost F(n)", "S": "specificity gap S(n)"}

_SHARES = ("accuracy", "recall", "precision", "sensitivity")  # written in per cent


def name_dataset(name: str) -> str:
    """Return a dataset's name as prose has it."""
    return _DATASETS.get(name, name)


def write_classes(classes: Sequence[str]) -> str:
    """Return what abbreviated classes stand for; empty unless all of them are known.

    Example:
        >>> write_classes(["mel", "nv"]), write_classes(["mel", "cat"])
        ('mel (melanoma) and nv (melanocytic naevus)', '')
    """
    if not classes or not set(classes) <= _CLASSES.keys():
        return ""
    return join_words([f"{name} ({_CLASSES[name]})" for name in classes])


def name_chain(chain: Sequence[str]) -> str:
    """Return a source as prose has it, named after what its weights were trained on, in order.

    Example:
        >>> name_chain(["imagenet", "ham10000"]), name_chain(["random", "ham10000"])
        ('ImageNet → HAM10000', 'HAM10000')
        >>> name_chain(["random"])
        'random'
    """
    is_trained = len(chain) > 1 and chain[0] == "random"
    return " → ".join(map(name_dataset, chain[1:] if is_trained else chain))


def name_source(source: Source) -> str:
    """Return a source as prose has it: `ImageNet → HAM10000`."""
    return name_chain(source.chain or (source.init,))


def write_settings(settings: Settings) -> str:
    """Return settings as text: `train.epochs=5, train.lr=0.1`; of a path, the file's name."""
    texts = ((key, str(value)) for key, value in settings)
    starts = ("/", "./", "../", "~")
    return ", ".join(f"{k}={PurePath(v).name if v.startswith(starts) else v}" for k, v in texts)


def name_start(source: Source) -> str:
    """Return a source's name in plans, with what tells it from others of the name."""
    return source.init + _write_details(source)


def name_cell(cell: Cell) -> str:
    """Return what a person would call a cell, without its dataset, model and recipe.

    For example `ImageNet, frozen through stage3`, or `random, all trained, tested on site A`.
    """
    hold_out = find_hold_out(cell)
    tested = f", tested on {hold_out.words}" if hold_out else ""
    return f"{name_treatment(cell)}{tested}"


def name_treatment(cell: Cell) -> str:
    """Return what a cell is called, whatever it was tested on."""
    names = dict(enumerate(cell.units, start=1))
    n_units = len(names)
    source, treatment = name_source(cell.source), dict(cell.treatment)
    if "init.units" in treatment:
        source += f" in {treatment['init.units']}"
    elif 0 < cell.k < n_units:
        source += f" through {names[cell.k]}"
    source += " with its head" if "init.head" in treatment else ""
    above = {"truncate": ", truncated", "stats": ", above with its statistics"}
    source += above.get(str(treatment.get("init.above")), "")
    if "freeze.units" in treatment:
        frozen = f"frozen in {treatment['freeze.units']}"
    elif cell.j == 0:
        frozen = "all trained"
    elif cell.j == n_units:
        frozen = "all frozen"
    else:
        frozen = f"frozen through {names.get(cell.j, f'unit {cell.j}')}"
    if cell.j and cell.bn not in ("frozen", None):
        frozen += f" (bn {cell.bn})"
    return f"{source}, {frozen}{_write_details(cell.source)}"


def name_member(block: Block, key: str) -> str:
    """Return what a cell of a block is called, with its treatments where the block has several."""
    cell = block.cells[key]
    treatments = tuple(pair for pair in list_treatments(cell) if pair not in block.recipe)
    name = name_cell(cell) + (f", {write_settings(treatments)}" if treatments else "")
    is_alone = all(each.is_unsearched for each in block.cells.values())
    return f"{name}, {_UNSEARCHED}" if cell.is_unsearched and not is_alone else name


def tell_apart(cells: Sequence[Cell]) -> list[str]:
    """Return the settings that tell cells from others of the same dataset, model and name.

    Each is a text, and empty where the name says all. Defaults are left out where they are a
    treatment of fine-tuning or most of these cells have them, as long as the texts differ.
    """
    twins: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        twins.setdefault((cell.dataset, cell.model, name_cell(cell)), []).append(cell)
    texts: dict[str, str] = {}
    for group in twins.values():
        counts = Counter(pair for cell in group for pair in cell.recipe)
        shared = {
            pair
            for pair, n in counts.items()
            if n == len(group) or (n > len(group) / 2 and is_default(*pair))
        }
        short = [_write_difference(cell, shared) for cell in group]
        if len(set(short)) < len(short):
            short = [write_settings(cell.recipe) for cell in group]
        texts |= {cell.key: text for cell, text in zip(group, short, strict=True)}
    return [texts[cell.key] for cell in cells]


def _write_difference(cell: Cell, shared: Collection[tuple[str, object]]) -> str:
    differing = tuple(pair for pair in drop_untreated(cell.recipe) if pair not in shared)
    texts = [write_settings(differing)]
    if cell.is_unsearched:
        texts.append(_UNSEARCHED)
    return ", ".join(filter(None, texts))


def name_first_units(n: int, unit: str, n_units: int) -> str:
    """Return the first n units of a network in words; `unit` is the last of them.

    Example:
        >>> [name_first_units(n, unit, 3) for n, unit in ((1, "stem"), (2, "stage1"))]
        ['first unit, stem', 'first 2 units, through stage1']
        >>> name_first_units(3, "stage2", 3)
        'all units (only the classifier is trained)'
    """
    if n == n_units:
        return "all units (only the classifier is trained)"
    return f"first {n} units, through {unit}" if n > 1 else f"first unit, {unit}"


def name_chosen(best: Best, noun: str = "") -> str:
    """Return what the cells are called that validation chooses for each seed.

    Args:
        noun: what is chosen, where it is not a point (k, j).
    """
    return f"{name_source(best.source)}, {f'{noun} chosen'.strip()} on validation"


def name_block(block: Block) -> str:
    """Return a block's name: `HAM10000 (mobilenetv2_100)`."""
    shown = drop_untreated(block.recipe)
    recipe = f", {write_settings(shown)}" if shown else ""
    recipe += "".join(f", {key} tuned" for key in block.tuned)
    return f"{name_dataset(block.dataset)} ({block.model}{recipe})"


def _write_details(source: Source) -> str:
    details = [write_settings(source.settings)] if source.settings else []
    details += ["imported"] if source.is_imported else []
    return f" ({', '.join(details)})" if details else ""


def name_metric(metric: str) -> str:
    """Return a metric as prose has it.

    Example:
        >>> name_metric("test/balanced_accuracy"), name_metric("test/recall/mel")
        ('balanced accuracy', 'recall of mel')
    """
    key = parse_metric(metric)
    text = _NAMES.get(key.name, key.name.replace("_", " "))
    text += f" of {key.class_name}" if key.class_name else ""
    return f"{text} of groups" if key.by_group else text


def is_share(metric: str) -> bool:
    """Return whether a metric is a share of images, and so written in per cent."""
    return any(name in parse_metric(metric).name for name in _SHARES)


def join_words(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
