"""Comparisons of cells as a frame: what `Content.comparisons` holds."""

from collections.abc import Sequence

import pandas as pd

from tlcnn.report.remarks import list_contrast_remarks, name_family
from tlcnn.report.words import name_chosen, name_member
from tlcnn.statistics.detect import find_detectable
from tlcnn.study.comparisons import Contrast, FamilyKind

_COMPARED = [
    *("a", "b", "a_label", "b_label", "family", "family_size", "dataset", "model"),
    *("delta", "low", "high", "p", "p_holm", "p_swap", "p_seed", "p_equivalent"),
    *("p_equivalent_holm", "margin", "verdict", "detectable", "n_seeds", "note", "remarks"),
]


def _name_first(contrast: Contrast) -> str:
    """Return the name of the first cell of a comparison, or of what was chosen."""
    if contrast.best is None:
        return name_member(contrast.block, contrast.a)
    is_treatment = contrast.family.kind is FamilyKind.FINETUNING
    return name_chosen(contrast.best, "fine-tuning" if is_treatment else "")


def tabulate_comparisons(contrasts: Sequence[Contrast]) -> pd.DataFrame:
    """Return one row for each comparison, with the columns of `Content.comparisons`."""
    names = _COMPARED[_COMPARED.index("p") : _COMPARED.index("detectable")]
    rows = []
    for contrast in contrasts:
        result, block = contrast.result, contrast.block
        rows.append(
            {
                "a": contrast.a,
                "b": contrast.b,
                "a_label": _name_first(contrast),
                "b_label": name_member(block, contrast.b),
                "family": name_family(contrast.family),
                "family_size": result.family_size,
                "dataset": block.dataset,
                "model": block.model,
                "delta": result.delta.value,
                "low": result.delta.low,
                "high": result.delta.high,
                **{name: getattr(result, name) for name in names},
                "detectable": find_detectable(result),
                "n_seeds": result.delta.n_seeds,
                "note": "; ".join(list_contrast_remarks(contrast)),
                "remarks": list_contrast_remarks(contrast),
            }
        )
    return pd.DataFrame(rows, columns=_COMPARED)  # a table of none has them as well
