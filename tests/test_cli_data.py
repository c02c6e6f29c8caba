"""`tlcnn data get`: from a served dataset to its index, whatever happens on the way."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from file_server import serve_files
from test_ham10000 import IDS, lay_dataverse, lay_isic_zips, lay_zips, load, write_zip
from test_lc25000_lung import write_tiles

from tlcnn.cli.main import main, make_parser
from tlcnn.config.schema import find_conf_dir
from tlcnn.data import sources
from tlcnn.data.sources import DRAWN, find_route, find_source, list_sources, make_addresses

ISIC = "/2018/ISIC2018_Task3_Training_"
GET = [sys.executable, "-m", "tlcnn.cli.main", "data", "get"]
LESIONS = "ISIC2018_Task3_Training_LesionGroupings.csv"
INPUT = "ISIC2018_Task3_Training_Input.zip"
EMPTY_ZIP = b"PK\5\6" + bytes(18)


def read_isic(folder):
    lay_isic_zips(folder)
    names = ("GroundTruth.zip", "LesionGroupings.csv", "Input.zip")
    return {
        ISIC + name: (folder / f"ISIC2018_Task3_Training_{name}").read_bytes() for name in names
    }


DATAFILES = {  # number -> name
    "4338392?format=original": "HAM10000_metadata.csv",
    "3172585": "HAM10000_images_part_1.zip",
    "3172584": "HAM10000_images_part_2.zip",
}


def read_dataverse(folder):
    lay_zips(folder)
    table = (folder / "HAM10000_metadata.tab").read_bytes()
    (folder / "HAM10000_metadata.csv").write_bytes(table.replace(b"\t", b","))
    files = {
        f"/api/access/datafile/{number}": (folder / name).read_bytes()
        for number, name in DATAFILES.items()
    }
    return files | {"/api/access/datafile/4338392": table}


def publish(monkeypatch, files):
    """Let the published checksums of Dataverse be those of these files."""
    isic, dataverse = sources.HAM10000.routes
    published = [
        replace(file, checksum=replace(file.checksum, value=hashlib.md5(content).hexdigest()))
        for file, content in zip(dataverse.files, files.values(), strict=False)
    ]
    routes = (isic, replace(dataverse, files=tuple(published)))
    monkeypatch.setattr(sources, "HAM10000", replace(sources.HAM10000, routes=routes))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with the ISIC files, which takes the place of every source."""
    with serve_files(read_isic(tmp_path / "published")) as server:
        monkeypatch.setenv("TLCNN_MIRROR", server.url)
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.fixture
def dataverse(tmp_path, server, monkeypatch):
    server.files = read_dataverse(tmp_path / "dataverse")
    publish(monkeypatch, server.files)
    return server


ROOT = Path("data/ham10000")


def get(*arguments):
    main(["data", "get", *map(str, arguments)])


def refused(capsys, text, *arguments, code=2):
    with pytest.raises(SystemExit) as exit_:
        get(*arguments)
    error = capsys.readouterr().err
    assert exit_.value.code == code and text in error, error
    return error


def list_names(root=ROOT):
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


def test_what_isic_publishes_is_read_as_it_lies(server, capsys):
    get("ham10000")
    said = capsys.readouterr().out
    assert len(load(ROOT)) == len(IDS)
    assert "CC BY-NC 4.0" in said.splitlines()[1], "the licence comes before the first file"
    assert said.count("recorded in SOURCES.json, not verified") == 3
    record = json.loads((ROOT / "SOURCES.json").read_text())["files"]
    assert set(record) | {"SOURCES.json"} == set(list_names())
    assert record[INPUT]["url"] == f"{server.url}{ISIC}Input.zip"
    assert "first use" in record[INPUT]["checked"] and len(record[INPUT]["sha256"]) == 64


def test_what_dataverse_publishes_is_read_as_it_lies(dataverse, capsys):
    get("ham10000", "--route", "dataverse")
    assert len(load(ROOT)) == len(IDS)
    assert capsys.readouterr().out.count("md5 is right, as Dataverse published it") == 3


def test_another_file_than_dataverse_published_is_refused(server, tmp_path, capsys):
    server.files = read_dataverse(tmp_path / "dataverse")
    error = refused(
        capsys, "as Dataverse published it in version 4.0", "ham10000", "--route=dataverse"
    )
    assert "8f85fb1aa29d80a2797247e434deb79d" in error and list_names() == []


@pytest.mark.parametrize("route", ["isic", "dataverse"])
def test_what_is_there_is_not_fetched_again(server, tmp_path, monkeypatch, capsys, route):
    if route == "dataverse":
        server.files = read_dataverse(tmp_path / "dataverse")
        publish(monkeypatch, server.files)
    get("ham10000", "--route", route)
    before = {path: path.stat().st_mtime_ns for path in ROOT.iterdir()}
    server.asked.clear()
    capsys.readouterr()
    get("ham10000", "--route", route)
    assert server.asked == []
    assert capsys.readouterr().out.count(": there; ") == 3
    assert {path: path.stat().st_mtime_ns for path in ROOT.iterdir()} == before


def test_a_wrong_file_is_named_and_not_touched(server, capsys):
    get("ham10000")
    (ROOT / LESIONS).write_bytes(b"image,lesion_id\n")
    error = refused(capsys, f"{LESIONS} is there but is not the file", "ham10000")
    assert "move it away" in error and (ROOT / LESIONS).read_bytes() == b"image,lesion_id\n"
    (ROOT / LESIONS).unlink()
    get("ham10000")
    assert len(load(ROOT)) == len(IDS)


def test_a_changed_publication_is_noticed(server, capsys):
    get("ham10000")
    (ROOT / LESIONS).unlink()
    server.files[f"{ISIC}LesionGroupings.csv"] += b"more\n"
    error = refused(capsys, "as recorded at first use on 20", "ham10000")
    assert f"take {LESIONS} out of" in error and LESIONS not in list_names()
    record = json.loads((ROOT / "SOURCES.json").read_text())
    del record["files"][LESIONS]
    (ROOT / "SOURCES.json").write_text(json.dumps(record))
    get("ham10000")
    assert (ROOT / LESIONS).read_bytes().endswith(b"more\n")


def test_files_put_there_by_hand_are_recorded(server, tmp_path, capsys):
    lay_isic_zips(ROOT.absolute().parent.parent / "by_hand")
    ROOT.mkdir(parents=True)
    for name in (LESIONS, INPUT):
        (tmp_path / "by_hand" / name).rename(ROOT / name)
    get("ham10000")
    assert server.count("Input.zip") == server.count("Lesion") == 0
    assert json.loads((ROOT / "SOURCES.json").read_text())["files"][INPUT]["url"] == (
        "found in place"
    )
    (ROOT / INPUT).write_bytes(b"<html>Sign in</html>")
    refused(capsys, "it is no .zip file", "ham10000")


def test_a_cut_archive_put_there_by_hand_is_not_recorded(server, capsys):
    ROOT.mkdir(parents=True)
    whole = server.files[f"{ISIC}Input.zip"]
    (ROOT / INPUT).write_bytes(whole[:-30])
    refused(capsys, "it is no whole .zip file", "ham10000")
    assert INPUT not in (ROOT / "SOURCES.json").read_text()
    (ROOT / INPUT).write_bytes(whole)
    get("ham10000")


def test_a_damaged_record_is_named(server, capsys):
    get("ham10000")
    (ROOT / "SOURCES.json").write_text("{")
    refused(capsys, "SOURCES.json is damaged", "ham10000")


def test_another_layout_that_is_there_is_enough(server, capsys):
    lay_dataverse(ROOT.absolute())
    get("ham10000")
    there = f"ham10000: {len(IDS)} images are there already; nothing needs to be fetched"
    assert there in capsys.readouterr().out and server.asked == []
    main(["data", "list"])
    assert re.search(r"ham10000 +yes, by hand ", capsys.readouterr().out)
    get("ham10000", "--root", "elsewhere")
    server.asked.clear()
    get("ham10000", "--route=dataverse", "--root=elsewhere")
    assert there in capsys.readouterr().out and server.asked == []


def test_tiles_that_are_there_are_enough(server, capsys):
    folder = Path("data/lc25000_lung")
    write_tiles(folder)
    get("lc25000_lung")
    assert "lc25000_lung: 12 images are there already" in capsys.readouterr().out
    for tile in (folder / "lung_n").iterdir():
        tile.unlink()
    refused(capsys, f"Put the file into {folder}", "lc25000_lung")
    write_tiles(Path("elsewhere"))
    get("lc25000_lung", "--root", "elsewhere")


def test_something_else_is_not_mixed_with(server, capsys):
    lay_dataverse(ROOT.absolute())
    next(ROOT.glob("*/*.jpg")).unlink()
    error = refused(capsys, "HAM10000_images_part_1, HAM10000_images_part_2", "ham10000")
    assert "--root" in error and server.asked == []
    get("ham10000", "--root", "elsewhere")
    Path("elsewhere/LICENSE.txt").write_text("CC BY-NC 4.0")
    get("ham10000", "--root", "elsewhere")
    Path("elsewhere/archive.zip").write_bytes(b"PK")
    refused(capsys, "something else already (archive.zip)", "ham10000", "--root=elsewhere")


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_says_how_to_do_it_by_hand(server, capsys, status):
    server.status = status
    error = refused(capsys, f"{status} ", "ham10000")
    truth = "ISIC2018_Task3_Training_GroundTruth.zip"
    assert f"https://isic-challenge-data.s3.amazonaws.com/2018/{truth}" in error
    assert str(ROOT / truth) in error and "--route dataverse" in error


def test_offline_says_how_to_do_it_by_hand(server, monkeypatch, capsys):
    monkeypatch.setenv("TLCNN_MIRROR", "http://127.0.0.1:9")
    error = refused(capsys, "no connection", "breastmnist")
    address = "https://zenodo.org/records/10519652/files/breastmnist.npz"
    assert address in error and "data/medmnist/breastmnist.npz" in error


@pytest.mark.parametrize(("size", "name"), [(28, "breastmnist"), (224, "breastmnist_224")])
def test_medmnist_must_have_its_published_checksum(server, capsys, size, name):
    server.files[f"/records/10519652/files/{name}.npz"] = EMPTY_ZIP
    refused(capsys, "as MedMNIST 3.0.2 publishes it", "breastmnist", "--size", size)
    assert list_names(Path("data/medmnist")) == []


def test_mirrors_come_before_the_source(server, capsys):
    with serve_files({}) as empty, serve_files(dict(server.files)) as mirror:
        mirror.files.pop(f"{ISIC}Input.zip")
        get("ham10000", "--mirror", empty.url, f"{mirror.url}/", "--root", "x")
        assert [len(empty.asked), len(mirror.asked), len(server.asked)] == [3, 3, 1]
    refused(capsys, "http://files", "ham10000", "--mirror", "files.org", "--root", "y", code=1)


def test_a_mirror_may_lie_in_a_folder(server, monkeypatch):
    server.files = {f"/lab/copies{path}": content for path, content in server.files.items()}
    monkeypatch.setenv("TLCNN_MIRROR", f"{server.url}/lab/copies/")
    get("ham10000")
    assert len(load(ROOT)) == len(IDS)


@pytest.mark.parametrize(
    ("arguments", "text", "code"),
    [
        (["ham1000"], "Did you mean 'ham10000'?", 1),
        (["ham10000", "--route", "isik"], "ham10000 comes by isic, dataverse. Did you mean", 1),
        (["breastmnist", "--size", "32"], "breastmnist comes in 28, 64, 128, 224 pixels", 1),
        (["ham10000", "--size", "28"], "only MedMNIST has sizes", 1),
        (["folder"], "reads your own images", 1),
        (["lc25000_lung"], "github.com/tampapath/lung_colon_image_set", 2),
        (["ham10000", "--root", "/dev/null/x"], "/dev/null/x", 73),
    ],
)
def test_what_cannot_be_got_is_said(server, capsys, arguments, text, code):
    refused(capsys, text, *arguments, code=code)
    assert server.asked == []


@pytest.mark.parametrize("name", ["synthetic", "synthetic_source"])
def test_drawn_images_need_no_download(server, capsys, name):
    get(name)
    assert "nothing to do" in capsys.readouterr().out and server.asked == []


def test_the_list_says_what_is_there(server, capsys):
    def states():
        main(["data", "list"])
        rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
        return {row[0]: [cell.strip() for cell in row if cell.strip()] for row in rows}

    assert states()["ham10000"][1:4] == ["no", "2.8 GB", "data/ham10000"]
    assert len(states()) == 1 + 1 + 12 + 1 + 2
    ROOT.mkdir(parents=True)
    (ROOT / LESIONS).write_bytes(b"x")
    assert states()["ham10000"][1] == "1 of 3 files"
    (ROOT / LESIONS).unlink()
    get("ham10000")
    capsys.readouterr()
    assert states()["ham10000"][1] == "yes"
    Path("data/medmnist").mkdir()
    Path("data/medmnist/breastmnist.npz").write_bytes(b"x")
    assert states()["breastmnist"][1] == "yes" and states()["pathmnist"][1] == "no"
    assert states()["breastmnist"][4] == "CC BY 4.0"


# ---- in processes of their own


def start(*arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heeded = signal.getsignal(signal.SIGINT)  # a job in the background inherits that it is not
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([*GET, *arguments], **pipes)
    finally:
        signal.signal(signal.SIGINT, heeded)


def wait_for(path, n_bytes):
    for _ in range(1500):
        if path.exists() and path.stat().st_size >= n_bytes:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} never came")


@pytest.fixture
def large(server, tmp_path):
    """Serve an archive of images that is large enough to be stopped halfway."""
    write_zip(tmp_path / "large.zip", IDS)
    with zipfile.ZipFile(tmp_path / "large.zip", "a") as archive:
        archive.writestr("README.txt", os.urandom(1_000_000))
    server.files[f"{ISIC}Input.zip"] = (tmp_path / "large.zip").read_bytes()
    server.stall_at = 500_000
    return server


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_it_goes_on(large, signal_):
    part = ROOT / f"{INPUT}.part"
    process = start("ham10000")
    wait_for(part, 400_000)
    process.send_signal(signal_)
    _, error = process.communicate(timeout=20)
    assert process.returncode == (75 if signal_ == signal.SIGINT else -signal.SIGKILL), error
    assert not (ROOT / INPUT).exists()
    large.stall_at = -1
    large.asked.clear()
    get("ham10000")
    (asked,) = large.asked
    assert asked.first >= 400_000 and len(load(ROOT)) == len(IDS)
    assert list_names() == sorted(
        ["SOURCES.json", LESIONS, INPUT, LESIONS[:24] + "GroundTruth.zip"]
    )


def test_of_two_processes_one_fetches(large):
    first = start("ham10000")
    wait_for(ROOT / f"{INPUT}.part", 400_000)
    second = start("ham10000")
    for line in second.stdout:
        if "waiting for another download" in line:
            break
    large.go.set()
    for process in (first, second):
        _, error = process.communicate(timeout=30)
        assert process.returncode == 0, error
    assert len(large.asked) == 3 and len(load(ROOT)) == len(IDS)


def test_a_full_disk_keeps_what_has_come(large):
    large.go.set()

    code = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (300_000, 300_000)); "
    code += "from tlcnn.cli.main import main; main(['data', 'get', 'ham10000'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 74 and f"{INPUT}.part: File too large" in done.stderr, done.stderr
    assert not (ROOT / INPUT).exists()
    large.asked.clear()
    get("ham10000")
    assert large.asked[0].first > 200_000 and len(load(ROOT)) == len(IDS)


# ---- the page


PAGE = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text()


def test_the_page_shows_commands_that_run(server, capsys):
    shown = [line.split("#")[0].split() for line in re.findall(r"(?m)^    (tlcnn .+)$", PAGE)]
    assert len(shown) == 7
    for _, *arguments in shown:
        options = make_parser().parse_args(arguments)
        if arguments[1] == "get":
            find_route(find_source(options.name, options.size), options.route)
        else:
            options.command(options)


def test_the_page_names_every_dataset_with_its_licence_and_mirror():
    names = [source.name for source in list_sources()]
    assert not [name for name in [*names, *DRAWN] if f"`{name}`" not in PAGE]
    licences = {source.licence.split(";")[0].split(" (")[0] for source in list_sources()}
    assert licences == {"CC BY 4.0", "CC BY-NC 4.0", "see its page"}
    assert all(name in PAGE for name in licences)
    url = find_source("bloodmnist").routes[0].files[0].url
    assert make_addresses(url, ["http://files.mylab.org/copies"])[0] in PAGE


def test_folders_are_those_of_the_configuration():
    for source in list_sources():
        path = find_conf_dir() / "dataset" / f"{source.name}.yaml"
        assert yaml.safe_load(path.read_text())["root"] == source.root
