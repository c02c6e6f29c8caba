"""The named policies of augmentation and of normalisation, as values without torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tlcnn.config.schema import check_word
from tlcnn.errors import ConfigError, did_you_mean
from tlcnn.storage import remember

VIEW_VERSION = 2  # raised whenever the pixels of a view change

Range = tuple[float, float]

Scaling = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of RGB

NORMALIZE: dict[str, Scaling] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@dataclass(frozen=True)
class Policy:
    """The ranges that the parameters of a view are drawn from, uniformly (sizes: log-uniformly).

    Brightness, contrast, saturation and tint are factors from 1 - x to 1 + x.
    """

    shift: bool = False  # crop anywhere in the stored image's margin instead of its centre
    dihedral: str = "none"  # "all" (flips and quarter turns), "mirror" (left-right only) or "none"
    scale: Range = (1.0, 1.0)  # magnification; 1 is one output pixel a stored pixel
    aspect: float = 1.0  # height over width of the magnification, up to this or its inverse
    rotate: float = 0.0  # degrees to either side
    brightness: float = 0.0
    contrast: float = 0.0  # about the normalisation's mean
    saturation: float = 0.0
    tint: float = 0.0  # a brightness of its own for each channel
    erase: float = 0.0  # the probability that a rectangle is erased (Zhong et al. 2020)

    @property
    def changes_pixels(self) -> bool:
        """Whether views differ from the image before parts of them are erased."""
        return replace(self, erase=0.0) != Policy()

    @property
    def resamples(self) -> bool:
        """Whether output pixels lie between stored pixels, so that they are interpolated."""
        return self.scale != (1.0, 1.0) or self.aspect != 1.0 or self.rotate != 0.0

    @property
    def recolours(self) -> bool:
        """Whether colours change."""
        return any((self.brightness, self.contrast, self.saturation, self.tint))


_STANDARD = Policy(
    shift=True,
    dihedral="all",
    scale=(0.85, 1.2),
    rotate=20.0,
    brightness=0.1,
    contrast=0.1,
    saturation=0.1,
)
AUGMENTS: dict[str, Policy] = {
    "none": Policy(),
    "light": Policy(shift=True, dihedral="all"),
    "standard": _STANDARD,
    "strong": replace(
        _STANDARD,
        scale=(0.7, 1.4),
        aspect=1.15,
        rotate=45.0,
        brightness=0.2,
        contrast=0.2,
        saturation=0.3,
        tint=0.05,
    ),
    # For images with an up and a down: X-rays, digits, photographs.
    "upright": replace(_STANDARD, dihedral="mirror", rotate=10.0),
}


LIMITS: dict[str, Range] = {  # of the numbers of a policy that can be set
    "scale": (0.1, 10.0),
    "aspect": (1.0, 10.0),
    "rotate": (0.0, 180.0),
    **dict.fromkeys(("brightness", "contrast", "saturation", "tint"), (0.0, 1.0)),
}


def find_policy(name: str, erase: float = 0.0, ranges: Mapping[str, Any] | None = None) -> Policy:
    """Return a named policy, with a probability of random erasing and numbers of its own.

    Args:
        ranges: numbers instead of those of the named policy, by the names of `LIMITS`; `scale`
            has two.

    Raises:
        ConfigError: a name or a number that is not allowed.

    Example:
        >>> find_policy("standard", ranges={"rotate": 45}).rotate
        45.0
    """
    check_word("train.augment", name, tuple(AUGMENTS))
    numbers: dict[str, Any] = {
        key: _parse_range(str(key), value) for key, value in (ranges or {}).items()
    }
    return replace(AUGMENTS[name], erase=erase, **numbers)


def _parse_range(key: str, value: Any) -> float | Range:
    """Return a number, or a pair for `scale`, of a policy. Raises ConfigError."""
    if key not in LIMITS:
        raise ConfigError(
            f"train.augment_ranges.{key} is no number of an augmentation."
            f"{did_you_mean(key, tuple(LIMITS))}\nThere are: {', '.join(LIMITS)}. Flips and crops "
            "are chosen by train.augment."
        )
    low, high = LIMITS[key]
    is_pair = key == "scale"
    numbers = value if isinstance(value, list | tuple) else [value]
    is_number = [isinstance(n, int | float) and not isinstance(n, bool) for n in numbers]
    is_complete = len(numbers) == 1 + is_pair and all(is_number)
    if not is_complete or not low <= numbers[0] <= numbers[-1] <= high:  # of NaN, nothing holds
        kind = "two numbers, the lower one first," if is_pair else "a number"
        raise ConfigError(
            f"train.augment_ranges.{key}={value} is not allowed: it must be {kind} from {low:g} "
            f"to {high:g}."
        )
    return (float(numbers[0]), float(numbers[1])) if is_pair else float(numbers[0])


def name_policy(policy: Policy) -> str:
    """Return the name of the policy with these numbers, but for erasing; `ranges` if none has.

    Example:
        >>> name_policy(find_policy("light", erase=0.5)), name_policy(Policy(rotate=3.0))
        ('light', 'ranges')
    """
    plain = replace(policy, erase=0.0)
    return next((name for name, each in AUGMENTS.items() if each == plain), "ranges")


def load_scaling(tag: str, cache_dir: Path) -> Scaling | None:
    """Return the mean and deviation that timm's weights of this tag were trained with, if known.

    Remembered per timm version, so that only the first call imports timm (and torch).
    """

    def ask_timm() -> list[list[float]] | None:
        from timm.models import get_pretrained_cfg

        try:
            cfg = get_pretrained_cfg(tag)
        except RuntimeError:  # timm's answer to an unknown tag
            cfg = None
        return None if cfg is None else [list(cfg.mean), list(cfg.std)]

    values = remember(cache_dir, "scaling", [tag, version("timm")], ask_timm)
    return None if values is None else (tuple(values[0]), tuple(values[1]))


def describe_views(policy: Policy) -> dict[str, Any]:
    """Return what decides the pixels of views beside their number and the image.

    Policies of crops and flips alone have no version: their pixels are copied and never change.
    """
    version = {"version": VIEW_VERSION} if policy.resamples or policy.recolours else {}
    views = {**asdict(policy), **version}
    if not policy.erase:
        del views["erase"]  # so that views without it are called what they always were
    return views
