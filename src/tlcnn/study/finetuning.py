"""Treatments of fine-tuning side by side: cells whose recipes differ in treatments alone.

A block has one recipe, and so one value of every treatment that is a setting of training. A
*fine-tuning block* joins the blocks whose recipes differ in treatments alone.
"""

from collections.abc import Iterator, Sequence

from tlcnn.records.settings import is_default, write_value
from tlcnn.study.block import Block
from tlcnn.study.cells import Cell, Settings, Source

# The settings of training that are treatments. The other settings are the budget (epochs), or are
# tuned for each treatment (rates).
TREATMENTS = frozenset(
    f"train.{key}"
    for key in (
        *("schedule", "head_epochs", "unfreeze_every", "layer_decay", "unit_lr", "head_lr"),
        *("anchor", "mixup", "cutmix", "erase", "label_smoothing", "ema_decay"),
        *("augment", "augment_ranges", "views", "sampling", "class_weights", "effective_beta"),
        *("loss", "focal_gamma", "logit_adjustment"),
    )
)


def make_finetuning_blocks(blocks: Sequence[Block]) -> list[Block]:
    """Return a fine-tuning block for each group of blocks that differ in treatments alone.

    Those without a treated cell are left out: the question about k and j has all of their cells.
    """
    groups: dict[tuple[str, str, Settings], list[Block]] = {}
    for block in blocks:
        shared = tuple(pair for pair in block.recipe if pair[0] not in TREATMENTS)
        groups.setdefault((block.dataset, block.model, shared), []).append(block)
    joined = [
        Block(
            dataset,
            model,
            recipe,
            members[0].metric,
            {key: cell for block in members for key, cell in block.cells.items()},
            {key: arm for block in members for key, arm in block.arms.items()},
            {key: arm for block in members for key, arm in block.val_arms.items()},
        )
        for (dataset, model, recipe), members in groups.items()
    ]
    return [block for block in joined if any(map(is_treated, block.cells.values()))]


def is_treated(cell: Cell) -> bool:
    """Return whether a cell has a treatment beside k and j."""
    return bool(cell.treatment) or bool(list_treatments(cell))


def list_treatments(cell: Cell) -> Settings:
    """Return the treatments of a cell's recipe that are not the default."""
    return tuple(pair for pair in drop_untreated(cell.recipe) if pair[0] in TREATMENTS)


def drop_untreated(recipe: Settings) -> Settings:
    """Return a recipe without the treatments that are the default.

    Example:
        >>> drop_untreated((("train.lr", 0.1), ("train.mixup", 0.0), ("train.anchor", 0.5)))
        (('train.lr', 0.1), ('train.anchor', 0.5))
    """
    return tuple(p for p in recipe if p[0] not in TREATMENTS or not is_default(*p))


def list_plain_blocks(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks whose recipe has no treatment; all where each has one."""
    plain = [b for b in blocks if not TREATMENTS & {key for key, _ in drop_untreated(b.recipe)}]
    return plain or [*blocks]


def list_finetuned(block: Block, source: Source) -> list[Cell]:
    """Return the cells of a source that validation may choose among.

    Frozen random units (j > k) are a control, and no fine-tuning.
    """
    return [cell for cell in block.cells.values() if cell.k >= cell.j and cell.source == source]


def list_shared_treatments(cells: Sequence[Cell]) -> Settings:
    """Return the treatments, other than the default, that all cells of a report share.

    Recipes do not have them, because a recipe has only the settings in which cells differ.
    """
    settings = [cell.shown_settings for cell in cells]
    differing = {key for cell in cells for key, _ in cell.recipe}
    return tuple(
        (key, write_value(value))
        for key, value in settings[0].items()
        if key in TREATMENTS - differing
        and not is_default(key, write_value(value))
        and all(each.get(key) == value for each in settings)
    )


def find_plain(block: Block, source: Source) -> str | None:
    """Return the cell of full fine-tuning, k = L and j = 0, with the shared treatments alone."""
    plain = (
        cell.key
        for cell in list_finetuned(block, source)
        if (cell.k, cell.j) == (block.n_units, 0) and cell.is_plain and not is_treated(cell)
    )
    return next(plain, None)


def list_treated(block: Block, source: Source) -> Iterator[Cell]:
    """Yield the cells of a source that have a treatment."""
    return (cell for cell in list_finetuned(block, source) if is_treated(cell))
