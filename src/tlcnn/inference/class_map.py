"""How the classes of a dataset are matched with those of a run: by name, or as asked for."""

from collections.abc import Mapping, Sequence

from tlcnn.errors import ConfigError, did_you_mean, list_names

Classes = Sequence[str] | tuple[str, ...]


def parse_class_map(text: str) -> dict[str, str]:
    """Return the classes of a dataset with the run's that they count as; empty for none.

    Raises:
        ConfigError: a part is no pair, or a class is there twice.

    Example:
        >>> parse_class_map("melanoma=mel,nevus=nv,other=")
        {'melanoma': 'mel', 'nevus': 'nv', 'other': ''}
    """
    pairs: dict[str, str] = {}
    for part in text.split(","):
        name, sign, target = (piece.strip() for piece in part.partition("="))
        if not (sign and name) or name in pairs:
            why = "is there twice" if name in pairs else "is no pair"
            raise ConfigError(
                f"--classes {text}: {part.strip() or 'an empty part'} {why}. Pairs DATASET=RUN "
                'are expected, e.g. --classes "melanoma=mel,nevus=nv,other=" (an empty class of '
                "the run leaves the images out)"
            )
        pairs[name] = target
    return pairs


def match_classes(
    classes: Classes, of_run: Classes, asked: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return for each class of a dataset the class of a run that it counts as; empty for none.

    Args:
        classes: of the dataset.
        of_run: the classes of the run, in any order.
        asked: pairs that count before equal names do; several classes may count as one.

    Raises:
        ConfigError: a class has no counterpart, or a pair names a class that is not there.

    Example:
        >>> match_classes(["nv", "skin", "rest"], ["mel", "nv"], {"skin": "mel", "rest": ""})
        {'nv': 'nv', 'skin': 'mel', 'rest': ''}
    """
    asked = asked or {}
    for given, allowed, whose in (
        (list(asked), classes, "the dataset"),
        ([target for target in asked.values() if target], of_run, "the run"),
    ):
        for name in given:
            if name not in allowed:
                raise ConfigError(
                    f"classes: {whose} has no class {name}.{did_you_mean(name, list(allowed))} It "
                    f"has {list_names(list(allowed), 20)}"
                )
    pairs = {name: asked.get(name, name if name in of_run else None) for name in classes}
    lacking = [name for name, target in pairs.items() if target is None]
    if lacking:
        raise ConfigError(
            f"the run has no class {list_names(lacking)} of the dataset; it has "
            f"{list_names(list(of_run), 20)}. Say what each counts as, e.g. --classes "
            f'"{lacking[0]}={of_run[0]}" ({{"{lacking[0]}": "{of_run[0]}"}} in Python), or leave '
            f'its images out: --classes "{lacking[0]}="'
        )
    if not any(pairs.values()):
        raise ConfigError("classes: every class of the dataset is left out, so nothing is tested")
    return {name: target or "" for name, target in pairs.items()}
