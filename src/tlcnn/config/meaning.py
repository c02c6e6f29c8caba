"""What every key of the configuration means, for the help of `python -m tlcnn.train`."""

import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tlcnn.config.schema import describe_type, list_keys
from tlcnn.text import align_columns

MEANINGS = {
    "dataset.kind": "the reader of the images: see the files in conf/dataset",
    "dataset.name": "what records, tables and folders call it",
    "dataset.root": "the folder of its files",
    "dataset.options": "an option of the reader: see the file in conf/dataset",
    "dataset.image_size": "pixels a side, as trained on",
    "dataset.fit": "how a rectangle becomes a square",
    "dataset.decode": "how JPEGs are read; scaled: large ones faster, with slightly other pixels",
    "dataset.normalize": "the mean and deviation that pixels are scaled by",
    "dataset.val_fraction": "the share of all images that chooses epochs and cells",
    "dataset.test_fraction": "the share of all images that is tested; unused with folds",
    "dataset.folds": "how many test folds partition the images; null: no folds",
    "dataset.fold": "the fold that is the test set",
    "dataset.split_seed": "the seed of the split, whatever that of the run",
    "dataset.split": "how images are split; auto: as published, where there is such a split",
    "dataset.on_bad": "what to do about images that cannot be decoded",
    "model.name": "any timm CNN; with a tag (resnet18.TAG) for other pretrained weights",
    "model.granularity": "how finely the network is divided into units",
    "model.drop_rate": "dropout before the head",
    "model.drop_path_rate": "stochastic depth",
    "init.source": "where weights come from",
    "init.through": "units to transfer: none, all, a unit, a module, a number; each in a sweep",
    "init.weights": "a file of weights, for checkpoint or instead of the hub",
    "init.run": "the run to start from, for run: its id or folder",
    "init.task": "the dataset to train on before, for task",
    "init.task_dataset": "keys of that dataset, as in init.task_dataset.root=DIR",
    "init.parent": "what the run on that dataset starts from",
    "init.self_seed": "the seed of the run to start from, for self; null: the next seed",
    "init.allow_unchecked": "accept weights of runs whose training images are unknown",
    "freeze.through": "units to freeze, as above; transferred: as many as are transferred",
    "freeze.bn": "what norm layers of frozen units may do",
    "freeze.allow_random": "freeze fresh units too: random filters, a control",
    "train.epochs": "passes over the training images",
    "train.batch_size": "images in an update",
    "train.optimizer": "AdamW, or SGD with momentum",
    "train.lr": "the learning rate at its peak",
    "train.weight_decay": "weight decay, but not of norms and biases",
    "train.momentum": "the momentum of sgd",
    "train.warmup_epochs": "epochs in which the learning rate rises, linearly",
    "train.final_lr_fraction": "the share of lr at which its cosine ends",
    "train.class_weights": "how classes weigh in the loss; effective is that of Cui et al. 2019",
    "train.effective_beta": "the beta of class_weights=effective",
    "train.label_smoothing": "the share of a label that is spread over all classes",
    "train.clip_norm": "the largest norm of the gradient; null: any",
    "train.augment": "random views of training images; upright: mirrored only",
    "train.views": "how many views of an image there are; null: new ones every epoch",
    "train.precision": "the type of activations; auto: bf16 where the device computes in it",
    "train.channels_last": "the memory layout of images and networks",
    "train.features": "close: stored outputs of frozen units may differ in their last bits",
    "train.compile": "use torch.compile, which pays on GPUs and in long runs",
    "train.ema_decay": "the decay of the average of the weights that is evaluated, e.g. 0.999",
    "train.patience": "epochs without a better validation score before the end; null: train all",
    "seed": "the seed of draws, order and views",
    "device": "where to compute; auto: the fastest of this machine",
    "threads": "CPU threads; null: all cores",
    "workers": "processes that decode the images, once; null: all cores",
    "eval_batch_size": "images in a forward pass of an evaluation",
    "cuda_graph": "on a GPU: record an update once and replay it, to the same bits",
    "checkpoint_every_s": "seconds between checkpoints, at most",
    "on_locked": "what to do when another process trains the run",
    "fail_fast": "whether a sweep stops at its first failure",
    "progress": "progress bars on the terminal",
    "reuse": "store the outputs of frozen units, where that is exact",
    "reuse_disk_gib": "GiB for them in cache_dir",
    "reuse_memory_gib": "GiB of memory for them, each process",
    "study": "the name of a sweep's record; null: the experiment's, or a hash",
    "output_dir": "the folder of runs and studies",
    "cache_dir": "the folder of caches; null: $TLCNN_CACHE, else the user's",
    "dry_run": "print the plan and stop",
}


def describe_keys(config: DictConfig) -> str:
    """Return one line for each key: its value in a configuration, its meaning, what it takes.

    A blank line parts the groups.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for key in list_keys():
        value: Any = OmegaConf.select(config, key)
        values = {key: value}
        if OmegaConf.is_config(value):  # a mapping: each of its keys can be set
            container: Any = OmegaConf.to_container(value)
            values = {f"{key}.{name}": each for name, each in container.items()} or {key: {}}
        kind = describe_type(key)
        text = MEANINGS[key] if kind == "a value" else f"{MEANINGS[key]} ({kind})"
        rows = groups.setdefault(key.rpartition(".")[0], [])
        for name, each in values.items():
            rows.append((f"{name}={each if isinstance(each, str) else json.dumps(each)}", text))
    return "\n\n".join("\n".join(align_columns(rows)) for rows in groups.values())
