"""What a measure says about a unit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """One number of one measure about one unit.

    Attributes:
        measure: its key in `tlcnn.layers.MEASURES`.
        variant: which of the measure's forms it is, such as `pooled` or `spatial`.
        n: the number of the unit, 1 to L. A measure of activations looks at what leaves the unit.
        value: the number; None where it cannot be had, and then `note` says why.
        low, high: its 95 % interval over what `over` names; None without one.
        null: the value of the same measure where nothing is shared; None without one.
        ceiling: the value of two networks that differ in the seed alone; None without one.
        n_images: the images it was computed on.
        over: what the interval covers, such as `test groups`.
        note: what a reader has to know, or why there is no value.
    """

    measure: str
    variant: str
    n: int
    value: float | None
    low: float | None = None
    high: float | None = None
    null: float | None = None
    ceiling: float | None = None
    n_images: int = 0
    over: str = ""
    note: str = ""
