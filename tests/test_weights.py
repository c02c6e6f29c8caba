"""Where weights are found, downloaded and refused. The hub is real code against loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hub_server
import pytest

from tlcnn.errors import ConfigError, WeightsError
from tlcnn.model import weights
from tlcnn.storage import digest_of_file

TAG = "resnet18.a1_in1k"
REPO = f"timm/{TAG}"
CONTENT = bytes(range(256)) * 40
LOCATE = """
import json, sys
from pathlib import Path
from tlcnn.errors import TlcnnError
from tlcnn.model.weights import locate_imagenet
try:
    found = locate_imagenet(sys.argv[1], cache_dir=Path(sys.argv[2]))
    answer = {"path": str(found.path), "digest": found.digest, "tag": found.tag}
    answer["origin"] = found.origin
except TlcnnError as error:
    answer = {"error": str(error), "type": type(error).__name__}
answer["imported"] = [name for name in ("torch", "timm") if name in sys.modules]
print(json.dumps(answer))
"""


def _source(**changes) -> dict:
    source = {
        "tag": TAG,
        "hub_id": REPO,
        "revision": "",
        "files": ["model.safetensors", "pytorch_model.bin"],
        "url": None,
    }
    return {**source, **changes}


@pytest.fixture
def cache(tmp_path) -> Path:
    """A cache that already knows what timm says about resnet18, so that nothing imports it."""
    folder = tmp_path / "cache"
    _remember(folder, "resnet18", _source())
    return folder


def _remember(folder: Path, model: str, source: dict) -> None:
    key = [model, weights.version("timm")]
    weights.remember(folder, "pretrained", key, lambda: source)


def _locate(cache: Path, url: str, model: str = "resnet18", **environment: str) -> dict:
    """Locate in a process of its own, since huggingface_hub reads its settings when imported."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE"))}
    settings = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(cache.parent / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", LOCATE, model, str(cache)],
        env={**clean, **settings},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _stored(cache: Path) -> list[Path]:
    """Every file in the hub's cache that has content of its own or is half-written."""
    return [
        path
        for path in (cache.parent / "hf" / "hub").rglob("*")
        if path.is_file() and path.parent.name == "blobs"
    ]


def test_download_then_no_network_and_no_torch(cache):
    with hub_server.serve({(REPO, "model.safetensors"): CONTENT}) as hub:
        first = _locate(cache, hub.url)
        asked = list(hub.requests)
        assert any(line.startswith("GET") for line in asked)
        assert _locate(cache, hub.url)["imported"] == [] and hub.requests == asked
    assert Path(first["path"]).read_bytes() == CONTENT
    assert first["tag"] == TAG and first["origin"] == f"hf-hub:{REPO}"
    assert first["digest"] == digest_of_file(Path(first["path"]))
    second = _locate(cache, hub.url)  # the server is gone
    assert second == first and second["imported"] == []


def test_nothing_is_downloaded_where_it_may_not_be(cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(weights, "_download_from_hub", pytest.fail)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr("pooch.retrieve", pytest.fail)
    for model, source in (
        ("resnet18", _source()),
        ("vgg11", _source(hub_id="", url="http://127.0.0.1:9/vgg11-8a719046.pth")),
    ):
        _remember(cache, model, source)
        found = weights.locate_imagenet(model, cache_dir=cache, may_download=False)
        assert found.path is None and found.digest == weights.NO_DIGEST


def test_falls_back_to_the_torch_file_and_remembers(cache):
    with hub_server.serve({(REPO, "pytorch_model.bin"): CONTENT}) as hub:
        first = _locate(cache, hub.url)
    assert first["path"].endswith("pytorch_model.bin")
    assert _locate(cache, hub.url) == first


def test_a_broken_connection_is_resumed(cache):
    with hub_server.serve({(REPO, "model.safetensors"): CONTENT}, "cut") as hub:
        found = _locate(cache, hub.url)
        if "error" in found:  # an older huggingface-hub resumes when the command is repeated
            found = _locate(cache, hub.url)
        assert hub.n_cuts == 1
    assert Path(found["path"]).read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["short", "wrong"])
def test_a_bad_body_is_not_taken_for_good(cache, fault):
    files = {(REPO, "model.safetensors"): CONTENT}
    with hub_server.serve(files, fault) as hub:
        answer = _locate(cache, hub.url)
    assert answer["type"] == "WeightsError"
    assert not [path for path in _stored(cache) if path.suffix != ".incomplete"]
    with hub_server.serve(files) as hub:
        assert Path(_locate(cache, hub.url)["path"]).read_bytes() == CONTENT


def test_a_damaged_cache_is_named(cache):
    with hub_server.serve({(REPO, "model.safetensors"): CONTENT}) as hub:
        path = Path(_locate(cache, hub.url)["path"])
        path.resolve().write_bytes(CONTENT[:-1] + b"?")
        answer = _locate(cache, hub.url)
    assert answer["type"] == "WeightsError"
    assert "damaged" in answer["error"] and str(path) in answer["error"]


@pytest.mark.parametrize("files", [{}, {(REPO, "README.md"): b"no weights"}])
def test_missing_on_the_hub(cache, files):
    with hub_server.serve(files) as hub:
        answer = _locate(cache, hub.url)
    assert answer["type"] == "WeightsError"
    assert "init.weights=FILE" in answer["error"]


def test_offline_says_what_to_fetch_and_where_to_put_it(cache):
    answer = _locate(cache, "https://huggingface.co", HF_HUB_OFFLINE="1")
    place = cache / "weights" / f"{TAG}.safetensors"
    assert answer["type"] == "WeightsError"
    for part in (
        "HF_HUB_OFFLINE is set",
        f"https://huggingface.co/{REPO}/resolve/main/model.safetensors",
        str(place),
        "init.weights=FILE",
    ):
        assert part in answer["error"]
    place.parent.mkdir()
    place.write_bytes(CONTENT)  # following the advice works
    found = _locate(cache, "https://huggingface.co", HF_HUB_OFFLINE="1")
    assert found["path"] == str(place) and found["tag"] == TAG


def test_url_only(cache):
    digest = digest_of_file(_write(cache.parent / "content", CONTENT))
    name = f"net-{digest[:8]}.pth"
    with hub_server.serve({("plain", name): CONTENT}) as hub:
        url = f"{hub.url}/plain/{name}"
        _remember(cache, "net", _source(tag="net.in1k", hub_id="", files=[], url=url))
        first = _locate(cache, hub.url, "net")
        assert first["digest"] == digest and first["origin"] == url
    assert _locate(cache, hub.url, "net") == first


@pytest.mark.parametrize(
    ("fault", "name"),
    [("wrong", "net-01234567.pth"), ("unavailable", "net.pth"), ("cut", "net.pth")],
)
def test_url_with_a_bad_answer_leaves_nothing(cache, fault, name):
    with hub_server.serve({("plain", name): CONTENT}, fault) as hub:
        url = f"{hub.url}/plain/{name}"
        _remember(cache, "net", _source(tag="net.in1k", hub_id="", files=[], url=url))
        answer = _locate(cache, hub.url, "net")
    assert answer["type"] == "WeightsError" and url in answer["error"]
    assert list((cache / "weights").iterdir()) == []


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_is_used_as_it_is(tmp_path):
    path = _write(tmp_path / "mine.safetensors", CONTENT)
    found = weights.locate_checkpoint(path, cache_dir=tmp_path / "c")
    assert (found.path, found.tag, found.origin) == (path, path.name, str(path))
    assert found.digest == digest_of_file(path)


def test_a_run_folder_is_a_checkpoint(tmp_path):
    path = _write(tmp_path / "run" / "weights.safetensors", CONTENT)
    assert weights.locate_checkpoint(path.parent, cache_dir=tmp_path / "c").path == path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("bset.pth", "Did you mean 'best.pth'?"),
        ("gone/best.pth", "/gone. Give the path of a file of weights"),
        ("", "holds no weights.safetensors. That folder holds: best.pth."),
    ],
)
def test_missing_checkpoint(tmp_path, given, expected):
    _write(tmp_path / "best.pth", CONTENT)
    with pytest.raises(WeightsError) as caught:
        weights.locate_checkpoint(tmp_path / given, cache_dir=tmp_path.parent / "c")
    assert expected in str(caught.value)


def test_a_missing_file_is_named_with_the_place_that_was_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError) as caught:
        weights.locate_checkpoint("nofile.pt", cache_dir=tmp_path / "c")
    assert str(caught.value) == (
        f"init.weights=nofile.pt: there is no file {tmp_path / 'nofile.pt'}. Give the path of a "
        "file of weights, or the folder of a run."
    )


@pytest.mark.parametrize(
    ("model", "tag", "hub_id"),
    [
        ("resnet18", "resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
        ("resnet18.tv_in1k", "resnet18.tv_in1k", "timm/resnet18.tv_in1k"),
    ],
)
def test_what_timm_says(tmp_path, model, tag, hub_id):
    source = weights.load_pretrained_source(model, tmp_path)
    assert (source["tag"], source["hub_id"]) == (tag, hub_id)
    assert source["files"] == ["model.safetensors", "pytorch_model.bin"]
    assert weights.load_pretrained_source(model, tmp_path) == source


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet18.tv_in1", "Did you mean 'resnet18.tv_in1k'?"),
        ("resnet18.nonsense", "resnet18.a1_in1k, resnet18.a2_in1k"),
        ("resnet81", "timm has no model 'resnet81'. Did you mean"),
        ("cs3darknet_s", "Use init=random"),
    ],
)
def test_no_such_pretrained_weights(tmp_path, model, expected):
    with pytest.raises(ConfigError) as caught:
        weights.load_pretrained_source(model, tmp_path)
    assert expected in str(caught.value)


def test_custom_file_names():
    assert (
        weights._list_hub_files("open_clip_pytorch_model.bin")[0] == "open_clip_model.safetensors"
    )
    assert weights._list_hub_files("other.bin") == ["other.safetensors", "other.bin"]
    assert weights._list_hub_files("only.safetensors") == ["only.safetensors"]


def test_importing_is_light():
    code = "import sys, tlcnn.model.weights; print('torch' in sys.modules, 'timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
