"""The documents: links lead somewhere, every page is in the index, and what a page shows works."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import hub_server
import pytest

import tlcnn.train

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])


def read_prose(page):
    """Return a page without blocks of code and without code between backticks."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`]*`", "", re.sub(r"(?m)^ {4,}[^-*\d\s].*$", "", text))


def list_anchors(page):
    """Return the anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    anchors = []
    for heading in re.findall(r"(?m)^#+ +(.+)$", text):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        anchor = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        n_before = sum(1 for name in anchors if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", name))
        anchors.append(f"{anchor}-{n_before}" if n_before else anchor)
    return anchors


def find_dead_links(page):
    """Return the relative links of a page whose file or heading does not exist."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", read_prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        has_anchor = not anchor or (target.is_file() and anchor in list_anchors(target))
        if not target.is_file() or not has_anchor:
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    assert find_dead_links(page) == []


def test_dead_links_are_found(tmp_path):
    (tmp_path / "b.md").write_text("# A `b`, c\n\n# A `b`, c\n", encoding="utf-8")
    links = "[x](b.md#a-b-c) [x](b.md#a-b-c-1) [x](#here) [x](b.md#a-b) [x](c.md) `[x](d.md)`"
    (tmp_path / "a.md").write_text(f"# Here\n\n{links}\n", encoding="utf-8")
    assert find_dead_links(tmp_path / "a.md") == ["b.md#a-b", "c.md"]


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    trees = "\n".join(re.findall(r"(?ms)^```\{toctree\}\n(.*?)^```$", index))
    names = re.findall(r"(?m)^(?:.*<)?([a-z_]+)>?$", trees)
    assert sorted(names) == sorted({page.stem for page in DOCS.glob("*.md")} - {"index"})


def list_blocks(name, language):
    """Return the blocks of code of a page."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


def write_studies(folder):
    """Write the files that the pages of own images and of a second dataset describe."""
    first, second = list_blocks("second_dataset", "yaml")
    (own,) = list_blocks("own_images", "yaml")
    for name, text in (
        ("experiment/photos.yaml", own),
        ("dataset/first.yaml", first),
        ("dataset/second.yaml", first.replace("first", "second")),
        ("experiment/second.yaml", second),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def test_the_studies_of_the_pages_can_be_planned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setenv("TLCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    (drawing,) = list_blocks("own_images", "python")
    exec(drawing.replace("420", "70").replace('"size": 96', '"size": 32'), {})
    write_studies(tmp_path / "study")
    (tmp_path / "data").mkdir()
    for name in ("first", "second"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "photos")
    for name, n_runs in (("photos", 15), ("second", 12)):
        words = ["-cd", "study", f"experiment={name}", "dry_run=true", "leaks=warn"]
        assert tlcnn.train.main(words) in (0, 2)
        assert f"study {name}: {n_runs} combinations" in capsys.readouterr().out


@pytest.mark.slow
def test_the_page_of_own_images_works_as_printed(tmp_path, monkeypatch):
    """With weights from a hub on this machine, which serves a network of random numbers."""
    import timm
    from safetensors.torch import save

    content = save(timm.create_model("resnet18").state_dict())
    (drawing,) = list_blocks("own_images", "python")
    write_studies(tmp_path / "study")
    monkeypatch.chdir(tmp_path)
    with hub_server.serve({("timm/resnet18.a1_in1k", "model.safetensors"): content}) as hub:
        settings = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hub"),
            "TLCNN_CACHE": str(tmp_path / "cache"),
            "NO_PROXY": "127.0.0.1",
        }
        subprocess.run([sys.executable, "-c", drawing], check=True)
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "a.png").symlink_to(next(tmp_path.glob("photos/*/*.png")))
        page = (DOCS / "own_images.md").read_text(encoding="utf-8")
        shown = re.findall(r"(?m)^    ((?:tlcnn|python -m tlcnn.train) .+)$", page)
        assert len(shown) >= 9
        for line in shown:
            words = shlex.split(line)
            if words[0] == "tlcnn":
                words = ["python", "-m", *words]
            command = " ".join([sys.executable, *map(quote_word, words[1:])])
            subprocess.run(command, shell=True, check=True, env={**os.environ, **settings})
    assert (tmp_path / "report" / "index.html").is_file()
    assert (tmp_path / "predictions.csv").is_file()


def quote_word(word):
    """Quote a word for the shell, but for the star of several runs."""
    return word if word.endswith("-s*") else shlex.quote(word)
