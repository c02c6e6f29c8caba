"""Where a source's weights are, and the digest of their content. Imports no torch.

locate_imagenet(model)  -> WeightsFile      timm's pretrained weights, from the hub or a url
locate_checkpoint(path) -> WeightsFile      any file of weights
"""

import errno
import json
import logging
import os
import re
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tlcnn.errors import ConfigError, StorageError, WeightsError, did_you_mean, list_names
from tlcnn.storage import digest_of, load_file_digest, make_dir, remember
from tlcnn.text import first_line

log = logging.getLogger(__name__)

RUN_WEIGHTS = "weights.safetensors"
NO_DIGEST = "not downloaded"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".torch")
_MAX_HEADER = 100_000_000  # bytes, as in safetensors itself
_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights and what identifies its content.

    Attributes:
        path: the place on this machine; None where the file does not exist yet.
        digest: the sha256 of its bytes, or `run:ID` for the weights of a run.
        tag: timm's name of the weights (`resnet18.a1_in1k`), or the file's name.
        origin: hub id, url or path, for the record.
        metadata: what a run wrote into it about itself, which stays with every copy.
    """

    path: Path | None
    digest: str
    tag: str
    origin: str
    metadata: Any = field(default=None, compare=False)

    @property
    def is_run(self) -> bool:
        """Whether a run made them; it counts by its id."""
        return self.digest.startswith("run:")


def locate_imagenet(model_name: str, *, cache_dir: Path, may_download: bool = True) -> WeightsFile:
    """Return timm's pretrained weights for an architecture, downloaded if they are missing.

    Looks at `cache_dir/weights/<tag>.<suffix>`, then at the hub's cache, and only then asks the
    network (HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE hold).

    Args:
        model_name: a timm architecture, with or without a tag (`resnet18`, `resnet18.tv_in1k`).
        cache_dir: the folder of facts, digests and files that are not on the hub.
        may_download: whether missing weights are downloaded; else they have no path and no digest.

    Raises:
        ConfigError: timm has no such model, tag, or no weights for it.
        WeightsError: the weights are not here and cannot be downloaded, or arrived broken.
    """
    source = load_pretrained_source(model_name, cache_dir)
    paths = (cache_dir / "weights" / f"{source['tag']}{suffix}" for suffix in SUFFIXES)
    placed_by_hand = next((path for path in paths if path.is_file()), None)
    if placed_by_hand is not None:
        return _describe_file(placed_by_hand, source["tag"], str(placed_by_hand), cache_dir)
    missing = None if may_download else WeightsFile(None, NO_DIGEST, source["tag"], "not here")
    locate = _locate_on_hub if source["hub_id"] else _locate_at_url
    weights = locate(source, cache_dir, missing)
    if weights.path is None:
        log.warning(
            "%s is not on this machine, and a dry run downloads nothing: the ids of runs that "
            "start from it are not known yet",
            weights.tag,
        )
    return weights


def locate_checkpoint(path: str | Path, *, cache_dir: Path) -> WeightsFile:
    """Return a file of weights, or the weights in a folder.

    Raises WeightsError, which names the closest file.
    """
    place = Path(path).expanduser()
    file = place / RUN_WEIGHTS if place.is_dir() else place
    if file.is_file():
        return _describe_file(file, file.name, str(file), cache_dir)
    advice = "Give the path of a file of weights, or the folder of a run."
    folder = place if place.is_dir() else place.parent
    if not folder.is_dir():
        raise WeightsError(
            f"init.weights={path}: there is no folder {folder.absolute()}. {advice}"
        )
    beside = sorted(p.name for p in folder.iterdir() if p.is_dir() or p.suffix in SUFFIXES)
    listed = f" That folder holds: {list_names(beside)}." if beside else ""
    if place.is_dir():
        raise WeightsError(
            f"init.weights={path}: the folder {place.absolute()} holds no {RUN_WEIGHTS}.{listed} "
            "Give the file itself."
        )
    raise WeightsError(
        f"init.weights={path}: there is no file {place.absolute()}."
        f"{did_you_mean(place.name, beside)}{listed} {advice}"
    )


def check_twin(path: Path, model_name: str) -> None:
    """Refuse the weights of a `tf_` network for its twin, whose tensors have the same names.

    The twins pad otherwise and have another epsilon, which no tensor tells: the file's name does.
    Raises WeightsError.
    """
    architecture = model_name.split(".")[0]
    if f"tf_{architecture}" in path.name:
        raise WeightsError(
            f"{path} is called tf_{architecture}, and model.name is {architecture}: they have the "
            "same tensors, but pad their images otherwise. Write "
            f"model.name=tf_{architecture}; or rename the file if its name is wrong."
        )


def _describe_file(path: Path, tag: str, origin: str, cache_dir: Path) -> WeightsFile:
    return WeightsFile(path, load_file_digest(path, cache_dir), tag, origin, _read_metadata(path))


def _read_metadata(path: Path) -> Any:
    """Return what a run wrote about itself: None in other files, {} where it cannot be read."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= _MAX_HEADER else {}
        text = header.get("__metadata__", {}).get("tlcnn")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    try:
        return None if text is None else json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}


# ---------------------------------------------------------------------- what timm knows


def load_pretrained_source(model_name: str, cache_dir: Path) -> dict[str, Any]:
    """Return where timm keeps an architecture's weights: tag, hub_id, revision, files, url.

    Remembered per timm version, so that only the first call imports timm (and torch).
    """
    key = [model_name, version("timm")]
    return remember(cache_dir, "pretrained", key, lambda: _ask_timm(model_name))


def _ask_timm(model_name: str) -> dict[str, Any]:
    import timm
    from timm.models import get_pretrained_cfg

    architecture = model_name.split(".", 1)[0]
    if not timm.is_model(architecture):
        close = did_you_mean(architecture, timm.list_models())
        raise ConfigError(f"timm has no model '{architecture}'.{close}")
    tags = timm.list_pretrained(f"{architecture}.*") or timm.list_pretrained(architecture)
    try:
        cfg = get_pretrained_cfg(model_name)
    except RuntimeError:  # timm's answer to an unknown tag
        cfg = None
    if not tags:
        raise ConfigError(
            f"timm has no pretrained weights for {architecture}. Use init=random, a file of your "
            f"own (init.weights=FILE), or another model."
        )
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        raise ConfigError(
            f"timm has no pretrained weights '{model_name}'.{did_you_mean(model_name, tags)} "
            f"Allowed: {list_names(tags, limit=20)}, or init.weights=FILE."
        )
    hub_id, _, revision = (cfg.hf_hub_id or "").partition("@")
    tag = f"{architecture}.{cfg.tag}" if cfg.tag else architecture
    files = _list_hub_files(cfg.hf_hub_filename) if hub_id else []
    url = cfg.url if isinstance(cfg.url, str) else None
    return {"tag": tag, "hub_id": hub_id, "revision": revision, "files": files, "url": url}


def _list_hub_files(filename: str | None) -> list[str]:
    """Return the names to try, safetensors first, as timm does."""
    if not filename:
        return ["model.safetensors", "pytorch_model.bin"]
    stem, suffix = os.path.splitext(filename)
    if suffix == ".safetensors":
        return [filename]
    return [f"{stem.replace('pytorch_model', 'model')}.safetensors", filename]


# ------------------------------------------------------------------------------ the hub


def _locate_on_hub(
    source: dict[str, Any], cache_dir: Path, missing: WeightsFile | None
) -> WeightsFile:
    """Return the weights in the hub's cache; `missing`, or downloaded ones, where they are not."""
    from huggingface_hub import try_to_load_from_cache

    hub_id, revision = source["hub_id"], source["revision"] or None
    cached = [try_to_load_from_cache(hub_id, file, revision=revision) for file in source["files"]]
    paths = [Path(path) for path in cached if isinstance(path, str)]  # others are None or a mark
    if missing is not None and not paths:
        return missing
    path = paths[0] if paths else _download_from_hub(source, cache_dir)
    weights = _describe_file(path, source["tag"], f"hf-hub:{hub_id}", cache_dir)
    try:  # the hub's cache stores large files under their announced sha256
        blob = path.parent / os.readlink(path)
    except OSError:  # a file system without links, where the name is not kept
        return weights
    if not re.fullmatch(r"[0-9a-f]{64}", blob.name) or blob.name == weights.digest:
        return weights
    if paths:
        raise WeightsError(
            f"the cached weights {path} are damaged: their sha256 is not the one that the hub "
            f"gave. Delete {blob} and {path}, and run the same command again."
        )
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    _refuse_download(source, cache_dir, "what arrived has another sha256 than announced", None)


def _download_from_hub(source: dict[str, Any], cache_dir: Path) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging as hub_logging

    revision = source["revision"] or None
    log.info("downloading %s from the hub", source["tag"])
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # no lines about retries; a failure in the end is our error
    try:
        for file in source["files"]:
            try:
                return Path(hf_hub_download(source["hub_id"], file, revision=revision))
            except LocalEntryNotFoundError as error:  # the hub could not be asked
                why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _first_cause(error)
                _refuse_download(source, cache_dir, why, error)
            except EntryNotFoundError:
                continue
            except Exception as error:  # its http library's errors differ between versions
                _refuse_download(source, cache_dir, _first_cause(error), error)
    finally:
        hub_logging.set_verbosity(verbosity)
    _refuse_download(source, cache_dir, f"it has no {' or '.join(source['files'])}", None)


# -------------------------------------------------------------------------------- a url


def _locate_at_url(
    source: dict[str, Any], cache_dir: Path, missing: WeightsFile | None
) -> WeightsFile:
    import pooch

    url = source["url"]
    file_name = Path(urlsplit(url).path).name
    path = cache_dir / "weights" / f"{digest_of(url, 8)}-{file_name}"
    if not path.is_file():
        if missing is not None:
            return missing
        make_dir(path.parent)
        try:  # into a temporary file that is renamed when it is complete
            pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent)
        except Exception as error:
            _refuse_download(source, cache_dir, _first_cause(error), error)
    weights = _describe_file(path, source["tag"], url, cache_dir)
    announced = re.search(r"-([0-9a-f]{8,64})\.", file_name)
    if announced and not weights.digest.startswith(announced.group(1)):
        path.unlink(missing_ok=True)
        _refuse_download(source, cache_dir, "its sha256 is not the one in its name", None)
    return weights


# --------------------------------------------------------------------- failed downloads


def _refuse_download(
    source: dict[str, Any], cache_dir: Path, why: str, error: Exception | None
) -> NoReturn:
    if isinstance(error, OSError) and error.errno in _DISK_ERRNOS:
        place = error.filename or cache_dir
        raise StorageError(f"cannot store {source['tag']} under {place}: {why}") from error
    if source["hub_id"]:
        from huggingface_hub import hf_hub_url

        file, revision = source["files"][0], source["revision"] or None
        address = hf_hub_url(source["hub_id"], file, revision=revision)
    else:
        file, address = Path(urlsplit(source["url"]).path).name, source["url"]
    place = cache_dir / "weights" / f"{source['tag']}{os.path.splitext(file)[1]}"
    raise WeightsError(
        f"the pretrained weights {source['tag']} are not on this machine and could not be "
        f"downloaded: {why}.\nTry again with a connection, or fetch {address} on another machine "
        f"and put it at {place}; or keep it anywhere and add init.weights=FILE."
    ) from error


def _first_cause(error: BaseException) -> str:
    """Return the type and first line of what an error started with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}"
