"""What every key of the configuration means, for the help of `python -m tlcnn.train`."""

import json
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tlcnn.config.schema import describe_type, find_conf_dir, list_keys
from tlcnn.text import align_columns

MEANINGS = {
    "dataset.kind": "the reader of the images: see the files in conf/dataset",
    "dataset.name": "its name in records, tables and folders",
    "dataset.root": "the folder of its files",
    "dataset.options": "an option of the reader: see the file in conf/dataset",
    "dataset.image_size": "the side of the square images, in pixels",
    "dataset.fit": "how a rectangle becomes a square",
    "dataset.decode": "how JPEGs are read; scaled: large ones faster, the pixels differ slightly",
    "dataset.normalize": "the mean and deviation by which pixels are scaled",
    "dataset.val_fraction": "the share of images for validation, which chooses epochs and cells",
    "dataset.test_fraction": "the share of images for the test; not used with folds",
    "dataset.folds": "how many test folds partition the images; null: no folds",
    "dataset.fold": "the fold that is the test set",
    "dataset.split_seed": "the seed of the split, independent of the key seed",
    "dataset.split": "how images are split; auto: as published, where there is such a split",
    "dataset.train_images": "train on this many of the training images, groups kept whole; null: "
    "all",
    "dataset.hold_out": "the images to test on, by a column of the dataset, as in site:A or "
    "site:[A,B]; sweeps: site:each",
    "dataset.on_bad": "what to do about images that cannot be decoded",
    "model.name": "any timm CNN; resnet18.TAG chooses other pretrained weights",
    "model.granularity": "how finely the network is divided into units",
    "model.drop_rate": "dropout before the head",
    "model.drop_path_rate": "stochastic depth",
    "init.source": "where weights come from",
    "init.through": "the last unit transferred: none, all, a unit, module or number; sweeps: each",
    "init.units": "instead of init.through: any units, as in [stage1,stage3], stem-stage2, "
    "all_but_stage3; sweeps: each, all_but_each",
    "init.above": "the units above the last transferred one: fresh, none (truncate), or drawn "
    "with the mean and deviation of the tensors of the source (stats)",
    "init.head": "transfer the classifier too, from a run with the same classes",
    "init.weights": "a file of weights, for checkpoint, or instead of a download",
    "init.run": "for run: the id or folder of the run to start from",
    "init.task": "for task: the dataset to train on first",
    "init.task_dataset": "for task: keys of that dataset, as in init.task_dataset.root=DIR",
    "init.task_run": "for task: init, freeze and train of that run, as in "
    "init.task_run.train.epochs=5",
    "init.task_seed_offset": "for task: the seed of that run is seed plus this number",
    "init.parent": "for task: the weights from which the run on that dataset starts",
    "init.self_seed": "for self: the seed of the run to start from; null: the next seed",
    "init.allow_unchecked": "accept weights of runs whose training images are unknown",
    "freeze.through": "the last unit frozen, as in init.through; transferred: the same units",
    "freeze.units": "instead of freeze.through: any units, as in init.units",
    "freeze.bn": "what norm layers of frozen units may do",
    "freeze.allow_random": "also freeze units with random weights (a control)",
    "train.epochs": "passes over the training images",
    "train.batch_size": "images in an update",
    "train.optimizer": "AdamW, or SGD with momentum",
    "train.lr": "the learning rate at its peak",
    "train.weight_decay": "weight decay, but not of norms and biases",
    "train.momentum": "the momentum of sgd",
    "train.warmup_epochs": "the epochs in which the learning rate rises linearly; half of "
    "train.epochs where it is as long",
    "train.final_lr_fraction": "the share of lr at which the cosine schedule ends",
    "train.class_weights": "the weights of classes in the loss; effective: Cui et al. 2019",
    "train.effective_beta": "the beta of class_weights=effective",
    "train.label_smoothing": "the share of a label that is spread over all classes",
    "train.clip_norm": "the largest norm of the gradient; null: no limit",
    "train.augment": "random changes of training images; upright: mirrored only",
    "train.augment_ranges": "ranges of random changes, instead of those of augment, as in "
    "train.augment_ranges.rotate=45",
    "train.views": "the number of random views of each image; null: new ones in every epoch",
    "train.precision": "the type of activations; auto: bf16 if the device supports it",
    "train.channels_last": "the memory layout of images and networks",
    "train.features": "close: stored outputs of frozen units may differ in their last bits",
    "train.compile": "use torch.compile, which is faster on GPUs in long runs",
    "train.ema_decay": "evaluate an average of the weights with this decay, e.g. 0.999",
    "train.schedule": "when units begin to be trained: at once, after the head, or one after "
    "another from the top",
    "train.head_epochs": "for head_first: how many of the epochs train the head alone",
    "train.unfreeze_every": "for gradual: the epochs until the next unit is trained, too",
    "train.patience": "stop after so many epochs without a better validation score; null: never",
    "train.head_lr": "the learning rate of the head at its peak; null: train.lr",
    "train.layer_decay": "rates by depth: the head has train.lr, and each unit towards the input "
    "this factor times the rate of the unit behind it",
    "train.unit_lr": "factors of the rate by unit, as in train.unit_lr.stage1=0.1",
    "train.accumulate": "batches whose gradients make one update",
    "train.anchor": "the strength of a pull of transferred units towards their start (L2-SP)",
    "train.mixup": "the alpha of mixup: pairs of images are blended; 0: off",
    "train.cutmix": "the alpha of CutMix: a part of an image is replaced by that of another; "
    "0: off",
    "train.erase": "the probability that a rectangle of a training image is erased",
    "train.sampling": "the images of an epoch; balanced: of every class equally many",
    "train.loss": "the loss; focal: Lin et al. 2017",
    "train.focal_gamma": "the gamma of loss=focal; 0: cross-entropy",
    "train.logit_adjustment": "the tau of the logit adjustment of the loss (Menon et al. 2021)",
    "train.select": "the validation metric that chooses the epoch, and that patience waits for",
    "seed": "the seed of random weights, of the order of images and of their views",
    "device": "the device; auto: the fastest one of this machine",
    "threads": "CPU threads; null: all cores",
    "workers": "threads that decode the images, once; null: all cores",
    "eval_batch_size": "images in a forward pass of an evaluation",
    "cuda_graph": "on a GPU: record an update once and replay it; the bits are the same",
    "checkpoint_every_s": "the longest time between checkpoints, in seconds",
    "leaks": "what to do when test images are, byte for byte, training images",
    "on_locked": "what to do when another process trains the run",
    "until_epoch": "pause after this epoch, with a checkpoint; null: train to the end",
    "fail_fast": "whether a sweep stops at its first failure",
    "progress": "progress bars on the terminal",
    "logger": "write the curves of a run while it is trained, for TensorBoard",
    "reuse": "store the outputs of frozen units, if the results stay the same",
    "reuse_disk_gib": "disk space for these outputs in cache_dir, in GiB",
    "reuse_memory_gib": "memory for these outputs in each process, in GiB",
    "study": "the name of the study; null: the name of the experiment, or a hash",
    "output_dir": "the folder of runs and studies",
    "cache_dir": "the folder of caches; null: $TLCNN_CACHE, or a folder in the user's cache",
    "dry_run": "print the plan and stop",
}


def describe_keys(config: DictConfig) -> str:
    """Return one line for each key: its value in a configuration, its meaning, what it takes.

    A blank line parts the groups.
    """
    comments = _read_option_comments(OmegaConf.select(config, "dataset.kind") or "")
    groups: dict[str, list[tuple[str, str]]] = {}
    for key in list_keys():
        value: Any = OmegaConf.select(config, key)
        values = {key: value}
        if OmegaConf.is_config(value):  # a mapping: each of its keys can be set
            container: Any = OmegaConf.to_container(value)
            values = {f"{key}.{name}": each for name, each in container.items()} or {key: {}}
        kind = describe_type(key)
        meaning = MEANINGS.get(key, "")
        text = meaning if kind == "a value" else f"{meaning} ({kind})".strip()
        rows = groups.setdefault(key.rpartition(".")[0], [])
        for name, each in values.items():
            line = comments.get(name, text)
            rows.append((f"{name}={each if isinstance(each, str) else json.dumps(each)}", line))
    return "\n\n".join("\n".join(align_columns(rows)) for rows in groups.values())


def _read_option_comments(kind: str) -> dict[str, str]:
    """Return what files in conf/dataset say of the options of a reader, by key."""
    comments: dict[str, str] = {}
    for path in sorted((find_conf_dir() / "dataset").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if re.search(rf"^kind: {re.escape(kind)}$", text, re.MULTILINE):
            for option, comment in re.findall(r"^  (\w+): .*?  # (.+)$", text, re.MULTILINE):
                comments.setdefault(f"dataset.options.{option}", comment)
    return comments
