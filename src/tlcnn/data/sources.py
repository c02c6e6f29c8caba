"""Where datasets are published: a name -> routes -> files with addresses, checksums and licence.

HAM10000's addresses are those of its publishers. Its images have the same MD5 in everything that
was found; the ISIC archive publishes no checksums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tlcnn.data.checksum import Checksum
from tlcnn.data.datasets.medmnist import SIZES, load_medmnist_info
from tlcnn.errors import ConfigError, did_you_mean, list_names

DATAVERSE = "https://dataverse.harvard.edu/api/access/datafile"
ISIC = "https://isic-challenge-data.s3.amazonaws.com/2018"
ISIC_FILES = (
    "ISIC2018_Task3_Training_GroundTruth.zip",
    "ISIC2018_Task3_Training_LesionGroupings.csv",
    "ISIC2018_Task3_Training_Input.zip",
)
HAM_FILES = (  # name, number and MD5; "original" is the table as uploaded, not a conversion of it
    ("HAM10000_metadata.csv", "4338392?format=original", "8f85fb1aa29d80a2797247e434deb79d"),
    ("HAM10000_images_part_1.zip", "3172585", "4639bfa73ab251610530a97c898e6e46"),
    ("HAM10000_images_part_2.zip", "3172584", "da43d6cc50f6613013be07e8986b384b"),
)
HAM_ORIGIN = "as Dataverse published it in version 4.0"

DRAWN = ("synthetic", "synthetic_source")
OWN = ("folder", "table")

BY_HAND = {
    "lc25000_lung": """lc25000_lung has no address that a program can rely on. Download it by hand:
  1. Its authors' page, https://github.com/tampapath/lung_colon_image_set, links to LC25000.zip
     (1.85 GB; Borkowski et al. 2019, arXiv:1912.12142).
  2. Put the file into {root} as it is, or its folders lung_aca, lung_n and lung_scc.
  3. Train with dataset=lc25000_lung. Its tiles are augmented copies of far fewer source tiles,
     which the reader keeps together in one split."""
}


@dataclass(frozen=True)
class RemoteFile:
    """One published file. Its name is the one in the dataset's folder."""

    name: str
    url: str
    checksum: Checksum | None = None


@dataclass(frozen=True)
class Route:
    """One place that publishes a dataset. Its page is where a person finds the files."""

    name: str
    files: tuple[RemoteFile, ...]
    page: str


@dataclass(frozen=True)
class Source:
    """A dataset that is published.

    Attributes:
        root: its folder by default, as in `conf/dataset`.
        is_shared: whether other datasets lie in the same folder.
        routes: the first is the default; none where `BY_HAND` says how to get it.
    """

    name: str
    what: str
    licence: str
    size: str
    root: str
    is_shared: bool
    routes: tuple[Route, ...]


HAM10000 = Source(
    name="ham10000",
    what="10,015 dermatoscopic images of 7,470 lesions, 7 diagnoses",
    licence="CC BY-NC 4.0 (not for commercial use); cite Tschandl et al. 2018, "
    "doi:10.1038/sdata.2018.161",
    size="2.8 GB",
    root="data/ham10000",
    is_shared=False,
    routes=(
        Route(
            "isic",
            tuple(RemoteFile(name, f"{ISIC}/{name}") for name in ISIC_FILES),
            "https://challenge.isic-archive.com/data/#2018",
        ),
        Route(
            "dataverse",
            tuple(
                RemoteFile(name, f"{DATAVERSE}/{number}", Checksum("md5", md5, HAM_ORIGIN))
                for name, number, md5 in HAM_FILES
            ),
            "https://doi.org/10.7910/DVN/DBW86T",
        ),
    ),
)
LC25000_LUNG = Source(
    name="lc25000_lung",
    what="lung tiles, 3 classes; to be downloaded by hand",
    licence="see its page",
    size="1.9 GB",
    root="data/lc25000_lung",
    is_shared=False,
    routes=(),
)


def list_sources(size: int = 28) -> list[Source]:
    """Return every dataset that is published; MedMNIST at `size` pixels a side."""
    sources = [HAM10000]
    for flag, facts in load_medmnist_info().items():
        file = facts["files"][str(size)]
        checksum = Checksum("md5", file["md5"], "as MedMNIST 3.0.2 publishes it")
        remote_file = RemoteFile(file["file"], file["url"], checksum)
        n_images = sum(facts["n_samples"].values())
        n_bytes = n_images * size * size * facts["n_channels"]
        source = Source(
            name=flag,
            what=f"MedMNIST: {n_images:,} images of {size} px, {facts['task']}",
            licence=f"{facts['license']}; cite Yang et al. 2023, doi:10.1038/s41597-022-01721-8",
            size=f"< {n_bytes / 1e9:.1f} GB" if n_bytes > 1e9 else f"< {n_bytes / 1e6:.0f} MB",
            root="data/medmnist",
            is_shared=True,
            routes=(Route("zenodo", (remote_file,), "https://zenodo.org/records/10519652"),),
        )
        sources.append(source)
    return [*sources, LC25000_LUNG]


def find_source(name: str, size: int | None = None) -> Source:
    """Return a dataset by name; MedMNIST at `size` pixels a side, 28 when None.

    Raises:
        ConfigError: there is no such dataset, or not in this size.
    """
    if size is not None:
        check_size(name, size)
    sources = {source.name: source for source in list_sources(size or SIZES[0])}
    if name in sources:
        return sources[name]
    if name in OWN:
        raise ConfigError(f"dataset={name} reads your own images; there is nothing to download")
    allowed = [*sources, *DRAWN]
    raise ConfigError(
        f"no dataset {name} to get; choose one of {list_names(allowed, 20)}."
        f"{did_you_mean(name, allowed)}"
    )


def check_size(name: str, size: int) -> None:
    """Raise ConfigError when a dataset does not come in a size."""
    if name not in load_medmnist_info():
        raise ConfigError(f"--size {size} is not allowed for {name}: only MedMNIST has sizes")
    if size not in SIZES:
        raise ConfigError(
            f"--size {size} is not allowed: {name} comes in {', '.join(map(str, SIZES))} pixels"
        )


def find_route(source: Source, name: str | None) -> Route | None:
    """Return a route by name, or the first one, if there is one. Raises ConfigError."""
    routes = {route.name: route for route in source.routes}
    if name is None or not routes:
        return next(iter(source.routes), None)
    if name not in routes:
        raise ConfigError(
            f"--route {name} is not allowed: {source.name} comes by {', '.join(routes)}."
            f"{did_you_mean(name, list(routes))}"
        )
    return routes[name]


def make_addresses(url: str, mirrors: Sequence[str], replacement: str = "") -> tuple[str, ...]:
    """Return where to try a file: at the mirrors, then at its source or the source's replacement.

    Example:
        >>> make_addresses("https://a.org/b/c?d=1", ["http://m/x/"])
        ('http://m/x/b/c?d=1', 'https://a.org/b/c?d=1')

    Raises:
        ConfigError: a mirror is no address.
    """
    for prefix in filter(None, (*mirrors, replacement)):
        if urlsplit(prefix).scheme not in ("http", "https") or not urlsplit(prefix).netloc:
            raise ConfigError(
                f"the mirror {prefix!r} is not allowed: give the beginning of an address, such as "
                "http://files.mylab.org/mirror"
            )
    path = urlsplit(url)._replace(scheme="", netloc="", fragment="").geturl()
    moved = [prefix.rstrip("/") + path for prefix in mirrors]
    return (*moved, replacement.rstrip("/") + path if replacement else url)
