"""What a run's plan says of its method, fact by fact, as sentences of a paper.

A sentence raises KeyError where the record lacks its fact, and is empty where there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tlcnn.config.hold_out import KEY as HOLD_OUT
from tlcnn.config.hold_out import parse_hold_out
from tlcnn.data.datasets import ham10000, lc25000_lung
from tlcnn.records.plan_record import PlanRecord
from tlcnn.report import treatment_sentences
from tlcnn.report.words import (
    join_words,
    name_chain,
    name_dataset,
    name_metric,
    write_classes,
)
from tlcnn.statistics.metrics import is_lower_better
from tlcnn.text import count
from tlcnn.training.steps import EpochSteps, divide_epoch

Sentence = Callable[[PlanRecord], str]

_GROUPS = {"ham10000": "lesion", "lc25000_lung": "source tile"}  # kind of dataset -> its group
_PUBLISHED = {"ham10000": ham10000.N_PUBLISHED, "lc25000_lung": lc25000_lung.N_PUBLISHED}
_CITED = {
    "ham10000": "Tschandl et al. 2018",
    "lc25000_lung": "Borkowski et al. 2019",
    "medmnist": "Yang et al. 2023",
}
_GROUP_OPTIONS = ("group_column", "group_regex", "groups", "task")


def _describe_images(plan: PlanRecord) -> str:
    sizes = {split: plan.count_images(split) for split in ("train", "val", "test")}
    kind = plan.settings.get("dataset.kind", "")
    n_images, n_published = sum(sizes.values()), _PUBLISHED.get(kind, 0)
    part = f" of the {n_published:,} published" if n_images < n_published else ""
    cited = f" ({_CITED[kind]})" if kind in _CITED else ""
    start = f"{n_images:,}{part} images of {_name_images(plan)}{cited} were used"
    if not plan.settings.get("dataset.folds"):
        start += (
            f": {sizes['train']:,} to train on, {sizes['val']:,} for validation and "
            f"{sizes['test']:,} for the test"
        )
    n_classes, names = len(plan.classes), write_classes(plan.classes)
    return f"{start}. " + (
        f"Their {n_classes} classes are {names}." if names else f"They have {n_classes} classes."
    )


def _name_images(plan: PlanRecord) -> str:
    """Return a dataset's name as prose has it, with what is held out of training."""
    held = plan.settings.get(HOLD_OUT)
    tested = f" (tested on {parse_hold_out(held).words})" if held else ""
    return f"{name_dataset(plan.dataset)}{tested}"


def describe_guessing(plan: PlanRecord) -> str:
    """Return what scores say of a network that has learnt nothing, for a dataset with classes."""
    folds = plan.settings.get("dataset.folds")
    sizes: dict[str, int] = {}
    for split in ("train", "val", "test") if folds else ("test",):
        for name, n in plan.split_sizes.get(split, {}).items():
            sizes[name] = sizes.get(name, 0) + n
    sizes = {name: n for name, n in sizes.items() if n}
    if plan.task == "multi-label" or len(sizes) < 2:
        return ""
    name = max(sizes, key=lambda key: sizes[key])
    share = sizes[name] / sum(sizes.values())
    return (
        f"On {_name_images(plan)}, guessing has a balanced accuracy of "
        f"{100 / len(sizes):.1f} %, and always naming the commonest class ({name}) has that too, "
        f"with an accuracy of {100 * share:.1f} %."
    )


def _describe_split(plan: PlanRecord) -> str:
    settings, name = plan.settings, name_dataset(plan.dataset)
    folds, is_official = settings["dataset.folds"], _is_split_official(settings)
    group = _name_group(plan)
    held = settings.get(HOLD_OUT)
    val, test = (settings[f"dataset.{split}_fraction"] for split in ("val", "test"))
    if folds:
        parts = f"into {folds} folds, each of which is the test set once"
        parts += f", with {100 * val:g} % of all images for validation"
    elif held:
        parts = f"with {100 * val:g} % of them for validation"
    else:
        parts = f"with {100 * val:g} % for validation and {100 * test:g} % for the test"
    division = f"divided by {group}, so that no {group} is in two parts"
    division = "divided image by image" if group == "image" else division
    division += (
        f", and stratified by class, {parts} (split seed {settings['dataset.split_seed']})."
    )
    if held:
        sentence = (
            f"{name} was tested on {parse_hold_out(held).words}, which training has not seen: all "
            f"of its images, and other images of their groups. The other images were {division}"
        )
    elif is_official is None:
        sentence = (
            f"The record does not say whether {name} was used with an official split. "
            f"Without one, it was {division}"
        )
    elif is_official:
        sentence = f"{name} was used with its official split."
    else:
        sentence = f"{name} was {division}"
    return sentence + _describe_fewer(plan, group)


def _is_split_official(settings: Mapping[str, Any]) -> bool | None:
    """Whether the split was the dataset's own; None where the record does not say."""
    kind, mode, folds = (settings[f"dataset.{key}"] for key in ("kind", "split", "folds"))
    if mode != "auto" or folds:
        return mode == "official"
    if kind == "folder":  # without the option, the names of folders decide
        splits = settings.get("dataset.options.splits")
        return None if splits is None else bool(splits)
    return kind == "medmnist" or bool(settings.get("dataset.options.split_column"))


def _describe_fewer(plan: PlanRecord, group: str) -> str:
    """Return a sentence on the training images that were used, if not all were."""
    n_images = plan.settings.get("dataset.train_images")
    if not n_images:
        return ""
    whole = "" if group == "image" else f", each {group} as a whole"
    number = "" if plan.settings["dataset.folds"] else f"{plan.count_images('train'):,}, "
    return (
        f" Of its training images, {number}at most {n_images:,} were used{whole}. Every class has "
        "about its share of them. They were drawn once for all seeds, so intervals do not cover "
        "another draw. All validation and test images were used."
    )


def _name_group(plan: PlanRecord) -> str:
    """Return what may not straddle the parts of a split: a lesion, or the image itself."""
    options = {key: plan.settings.get(f"dataset.options.{key}") for key in _GROUP_OPTIONS}
    kind = plan.settings["dataset.kind"]
    if options["group_column"]:
        return str(options["group_column"])
    if options["group_regex"] or options["groups"]:
        return "group of files"
    return "lesion" if options["task"] == "lesions" else _GROUPS.get(kind, "image")


def _describe_pixels(plan: PlanRecord) -> str:
    data = plan.identity["dataset"]
    side = data["stored_size"]
    shape = {
        "crop": "The largest central square of an image was cut out and resized to",
        "squash": "An image was resized, without keeping its aspect ratio, to",
        "pad": "An image was resized to fit into, with black borders around it,",
    }[data["fit"]]
    line = f"{shape} {side} × {side} pixels ({data['filter']} interpolation, antialiased)."
    if data.get("decode", "full") != "full":
        line += " JPEG files were decoded at a reduced size, of at least twice that side."
    return line


def _describe_input(plan: PlanRecord) -> str:
    data = plan.identity["dataset"]
    size, (means, deviations) = data["image_size"], data["normalize"]
    return (
        f"The network saw {size} × {size} pixels, in validation and test the central ones. "
        f"Channels were scaled to 0 to 1, then normalised by the means {_list_numbers(means)} and "
        f"the standard deviations {_list_numbers(deviations)} (red, green, blue)."
    )


def _list_numbers(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _describe_views(plan: PlanRecord) -> str:
    views = plan.identity["views"]
    size, side = (plan.identity["dataset"][key] for key in ("image_size", "stored_size"))
    parts = [f"a crop of {size} of the {side} pixels at a random place"] if views["shift"] else []
    if views["dihedral"] != "none":
        half = "a left-right flip of every second image"
        flips = {"all": "one of the eight flips and quarter turns", "mirror": half}
        parts.append(flips[views["dihedral"]])
    low, high = views["scale"]
    if (low, high) != (1, 1):
        parts.append(f"a magnification from {low:g} to {high:g} (log-uniform)")
    if views["aspect"] != 1:
        parts.append(f"a change of the aspect ratio by a factor up to {views['aspect']:g}")
    if views["rotate"]:
        parts.append(f"a rotation of up to {views['rotate']:g} degrees to either side")
    strengths: dict[float, list[str]] = {}
    for name in ("brightness", "contrast", "saturation"):
        strengths.setdefault(views[name], []).append(name)
    for strength, names in strengths.items():
        if strength:
            factors = f"{1 - strength:g} to {1 + strength:g}"
            parts.append(f"{join_words(names)} changed by a factor from {factors}")
    if views["tint"]:
        factors = f"{1 - views['tint']:g} to {1 + views['tint']:g}"
        parts.append(f"the brightness of each channel changed by a factor from {factors}")
    if not parts:
        return "Training images were not augmented: the network saw their centre."
    line = f"Training images were shown with {join_words(parts)}, all drawn at random."
    if (low, high) != (1, 1) or views["rotate"] or views["aspect"] != 1:
        line += " Pixels were interpolated bilinearly, and images mirrored at their border."
    n_views = plan.settings["train.views"]
    if n_views:
        return f"{line} Each image had {count(n_views, 'view')}."
    return f"{line} Every epoch drew new views."


def _describe_network(plan: PlanRecord) -> str:
    modules = [f" ({', '.join(unit.modules.split())})" * bool(unit.modules) for unit in plan.units]
    names = [unit.unit + text for unit, text in zip(plan.units, modules, strict=True)]
    return f"{plan.model} was divided into {count(len(names), 'unit')}: {join_words(names)}."


def _describe_weights(plan: PlanRecord) -> str:
    if plan.weights is None or plan.weights_digest.startswith("run:"):
        return ""
    source = name_chain(plan.source)
    digest = f" (sha256 {plan.weights_digest[:12]})" if plan.weights_digest else ""
    return f"{source} weights of {plan.model} were {plan.weights.tag}{digest}."


def _describe_treatment(plan: PlanRecord) -> str:
    fresh = "Units that are not transferred, and the classifier, began with random weights."
    if plan.j == 0:
        return fresh
    norms = {
        "frozen": "Frozen units did not change at all; their norm layers kept their statistics.",
        "affine": "In some runs the norm layers of frozen units trained their weights.",
        "adapt": "In some runs the norm layers of frozen units adapted their statistics.",
        "batch": "In some runs the norm layers of frozen units used the statistics of each batch.",
    }
    return norms[plan.bn]


def _describe_dropout(plan: PlanRecord) -> str:
    rates = {"dropout": "drop_rate", "stochastic depth": "drop_path_rate"}
    parts = [f"{name} {plan.settings[f'model.{key}']:g}" for name, key in rates.items()]
    parts = [part for part in parts if not part.endswith(" 0")]
    return f"{plan.model} was trained with {join_words(parts)}." if parts else ""


def _read(plan: PlanRecord, *keys: str) -> list[Any]:
    return [plan.settings[f"train.{key}"] for key in keys]


def _describe_optimizer(plan: PlanRecord) -> str:
    name, decay, momentum = _read(plan, "optimizer", "weight_decay", "momentum")
    title = "AdamW (Loshchilov and Hutter 2019)"
    title = title if name == "adamw" else f"SGD with Nesterov momentum {momentum:g}"
    return (
        f"Networks were trained by {title} with weight decay {decay:g}, not on norms and biases."
    )


def _describe_rate(plan: PlanRecord) -> str:
    lr, warmup, final = _read(plan, "lr", "warmup_epochs", "final_lr_fraction")
    end = f"{final:g} of it" if final else "0"
    start = f"started at {lr:g}"
    if warmup:
        epochs = "the first epoch" if warmup == 1 else f"the first {warmup:g} epochs"
        start = f"rose linearly to {lr:g} in {epochs}"
    return f"The learning rate {start} and then fell along a cosine to {end}."


def _divide_epoch(plan: PlanRecord) -> EpochSteps:
    (size,), accumulate = _read(plan, "batch_size"), plan.settings.get("train.accumulate") or 1
    return divide_epoch(plan.count_images("train"), size, accumulate)


def _describe_length(plan: PlanRecord) -> str:
    n_epochs, size, patience = _read(plan, "epochs", "batch_size", "patience")
    shown = _divide_epoch(plan).batch_size if plan.count_images("train") else size
    line = f"Training took {count(n_epochs, 'epoch')} with batches of {count(shown, 'image')}"
    if patience:
        line += f", and ended after {count(patience, 'epoch')} without a better validation score"
    return f"{line}."


def _describe_steps(plan: PlanRecord) -> str:
    steps, is_balanced = _divide_epoch(plan), plan.settings.get("train.sampling") == "balanced"
    if not steps.n_left or is_balanced or plan.steps_per_epoch != steps.n_steps:
        return ""  # nothing is left over, images are repeated, or a record lacks a number
    verb = "was" if steps.n_left == 1 else "were"
    return (
        f"An epoch had {count(steps.n_steps, 'step')}: the last {count(steps.n_left, 'image')} of "
        f"its random order, too few for a step, {verb} left out."
    )


def _describe_schedule(plan: PlanRecord) -> str:
    epochs = (plan.settings.get(f"train.{key}") for key in ("head_epochs", "unfreeze_every"))
    n_head, every = (count(n, "epoch") if isinstance(n, int) else "some epochs" for n in epochs)
    return {
        "head_first": f"The classifier alone was trained for {n_head}, and then all trained units "
        "with it; each of the two had a learning-rate schedule and an optimiser of its own.",
        "gradual": f"The classifier was trained first; after every {every} the last resting unit "
        "was trained as well, with a fresh optimiser.",
    }.get(plan.settings.get("train.schedule", ""), "")


def _describe_loss(plan: PlanRecord) -> str:
    scheme, beta, smoothing = _read(plan, "class_weights", "effective_beta", "label_smoothing")
    gamma = plan.settings.get("train.focal_gamma")
    is_focal = bool(gamma) and plan.settings.get("train.loss") == "focal"
    loss = f"focal loss (gamma {gamma:g})" if is_focal else "cross-entropy"
    if plan.task == "multi-label":
        loss = f"{loss if is_focal else 'binary cross-entropy'} of each finding"
    if plan.settings.get("train.sampling") == "balanced":
        scheme = "none"  # the shown classes are equally frequent
    weights = {
        "none": "without class weights",
        "balanced": "with classes weighted by their inverse frequency",
        "effective": f"with classes weighted by their inverse effective number (beta {beta:g})",
    }[scheme]
    end = f" and label smoothing {smoothing:g}" if smoothing else ""
    return f"The loss was the {loss}, {weights}{end}."


def _describe_stability(plan: PlanRecord) -> str:
    clip, decay = _read(plan, "clip_norm", "ema_decay")
    parts = [
        f"Gradients were clipped at norm {clip:g}." if clip else "Gradients were not clipped."
    ]
    if decay:
        parts.append(f"Weights were averaged exponentially (decay {decay:g}) before evaluation.")
    return " ".join(parts)


def _describe_precision(plan: PlanRecord) -> str:
    precision = plan.identity["train"]["precision"]
    names = {"bf16": "bfloat16 by automatic mixed precision", "fp32": "32-bit floating point"}
    return f"Networks computed in {names[precision]}."


def _describe_epoch(plan: PlanRecord) -> str:
    metric = plan.settings.get("train.select") or "balanced_accuracy"
    extreme = "lowest" if is_lower_better(metric) else "highest"
    tie = "" if metric == "nll" else " (of equal ones, the lowest negative log-likelihood)"
    return (
        f"Each run was tested once, with the weights of the epoch of the {extreme} "
        f"{name_metric(metric)} on validation{tie}. Cells were chosen on validation as well."
    )


DATA: tuple[Sentence, ...] = (_describe_images, _describe_split, describe_guessing)
PREPROCESSING: tuple[Sentence, ...] = (_describe_pixels, _describe_input)
AUGMENTATION: tuple[Sentence, ...] = (_describe_views, treatment_sentences.describe_mixing)
NETWORKS: tuple[Sentence, ...] = (
    *(_describe_network, _describe_weights, _describe_treatment, _describe_dropout),
)
TRAINING: tuple[Sentence, ...] = (
    *(_describe_optimizer, _describe_rate, treatment_sentences.describe_rates),
    *(treatment_sentences.describe_anchor, _describe_length, _describe_steps),
    *(_describe_schedule, treatment_sentences.describe_accumulation, _describe_loss),
    treatment_sentences.describe_imbalance,
    *(_describe_stability, _describe_precision),
)
SELECTION: tuple[Sentence, ...] = (_describe_epoch,)
PROCEDURE = (*NETWORKS, *PREPROCESSING, *AUGMENTATION, *TRAINING, *SELECTION)  # all but the data
