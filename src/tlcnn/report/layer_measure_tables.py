"""The tables of a report's `LayerMeasures`: each measure beside the costs, and every reading."""

from collections.abc import Mapping
from typing import Any

from tlcnn.report.content import LayerMeasures
from tlcnn.report.grid import describe_transfer
from tlcnn.report.measure_sentences import format_reading, name_depth
from tlcnn.report.numbers import NONE, is_number
from tlcnn.report.show import show_number, show_value
from tlcnn.report.table import Column, Entry, Table, fill_table

EXPLAINED = (
    "Measures look at the networks themselves and train none of them again. The null is the same "
    "measure where nothing is shared, and the ceiling that of two networks which differ in the "
    "seed alone; it is a reference, and a reading may lie beyond it. The costs stand first, "
    "because they say what freezing does. A measure of a unit looks at that unit, or at what "
    "leaves it, while a cost is of all units up to it. The measures are not combined into one "
    "number. Variants of a measure have these names. “Pooled” takes the mean of each feature "
    "over the image. “Components” takes the same number of features at all units, so that wide "
    "units have no advantage. “Against” compares the source with a network that was trained on "
    "the target alone, and not with the fine-tuned network. “Own” looks at a network that was "
    "trained on the target alone. “Recomputed” adapts the statistics of norm layers after a unit "
    "was set back."
)
AGREEMENT = (
    "The depth that each measure points to, which is the unit before its largest step towards "
    "specific (for the costs, the last unit before they reach the margin), and Kendall's τ "
    "between its order of the units and that of the costs (1 is the same order, −1 the opposite "
    "one). A step counts where it is larger than its interval."
)
_STANDINGS = {
    "same": "the same depth",
    "open": "left open by the verdicts",
    "disagrees": "excluded by the verdicts",
    "none": "",
    "": "",
}


def make_cost_agreement_table(part: LayerMeasures) -> Table:
    """Return one row a measure: the depth that it points to, and its order beside the costs."""
    names = dict(enumerate(part.units, start=1))

    def show_depth(n: Any) -> Entry:
        if not is_number(n):
            return Entry(NONE, None, why="no step is larger than its interval")
        return Entry(name_depth(int(n), names), n)

    def describe(row: Mapping[Any, Any]) -> dict[Column, Entry]:
        return {
            Column("measure"): show_value(row["title"]),
            Column("variant"): show_value(row["variant"]),
            Column("general units"): show_depth(row["depth"]),
            Column("beside the costs"): show_value(_STANDINGS[row["standing"]]),
            Column("τ with the costs", "number"): show_number(
                row["tau"], lambda tau: format_reading(tau, 2), "too few units have both"
            ),
            Column("units", "number"): show_number(row["n_units"] or None),
        }

    rows: list[Mapping[Any, Any]] = [*part.agreement.to_dict("records")]
    if part.costs is not None and part.cost_depth is not None:
        title = f"cost {part.costs.basis}(n), below its margin"
        blank = dict.fromkeys(("variant", "standing"), "") | dict.fromkeys(("n_units", "tau"))
        rows = [{**blank, "title": title, "depth": part.cost_depth[0]}, *rows]
    return fill_table(rows, describe, title="Measures beside the costs", nouns=("row", "rows"))


def make_reading_table(part: LayerMeasures, key: str = "", *, shown: bool = False) -> Table:
    """Return one row a measure, variant and unit, with the interval, the null and the ceiling.

    Args:
        shown: the most important variants alone, as print has them.
    """

    def describe(row: Mapping[Any, Any]) -> dict[Column, Entry]:
        def show(name: str) -> Entry:
            why = str(row["note"]) if name == "value" else ""
            return show_number(row[name], lambda x: format_reading(x, row["digits"]), why)

        return {
            Column("measure"): show_value(row["title"]),
            Column("variant"): show_value(row["variant"]),
            Column("n", "number"): show_number(row["n"]),
            Column("unit"): show_value(row["unit"]),
            Column("reading", "number"): show("value"),
            Column("95 % low", "number"): show("low"),
            Column("95 % high", "number"): show("high"),
            Column("null", "number", "where nothing is shared"): show("null"),
            Column("ceiling", "number", "networks that differ in the seed"): show("ceiling"),
            Column("seeds", "count"): show_number(row["n_seeds"] or None),
            Column("images", "count"): show_number(row["n_images"] or None),
            Column("interval over"): show_value(row["over"]),
            Column("note"): show_value(row["note"]),
        }

    frame = part.readings[part.readings["is_shown"]] if shown else part.readings
    return fill_table(
        frame.to_dict("records"),
        describe,
        key=key,
        title=f"Readings of measures: {describe_transfer(part)}",
        nouns=("reading", "readings"),
    )
