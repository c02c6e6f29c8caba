"""Weights of medical networks that others have published, by name: `init=radimagenet`.

Their authors give them on pages of their own, some only on request.
"""

from dataclasses import dataclass
from pathlib import Path

from tlcnn.errors import WeightsError, list_names
from tlcnn.model.weights import SUFFIXES, WeightsFile, locate_checkpoint


@dataclass(frozen=True)
class Published:
    """Published weights: what they were trained on, timm's names of the networks, and the page."""

    images: str
    files: dict[str, str]  # of each network, on the page
    page: str


PUBLISHED = {
    "radimagenet": Published(  # Mei et al. 2022, doi:10.1148/ryai.210315
        "CT, MRI and ultrasound",
        {
            "resnet50": "ResNet50.pt",
            "densenet121": "DenseNet121.pt",
            "inception_v3": "InceptionV3.pt",
        },
        "https://github.com/BMEII-AI/RadImageNet",
    ),
    "chexnet": Published(  # a reproduction of Rajpurkar et al. 2017, arXiv:1711.05225
        "chest X-rays (ChestX-ray14)",
        {"densenet121": "model.pth.tar"},
        "https://github.com/arnoweng/CheXNet",
    ),
    "lunit": Published(  # Kang et al. 2023, arXiv:2212.04690
        "histology (TCGA), self-supervised",
        {"resnet50": "bt_rn50_ep200.torch"},
        "https://github.com/lunit-io/benchmark-ssl-pathology",
    ),
}


def locate_published(name: str, model_name: str, *, cache_dir: Path) -> WeightsFile:
    """Return the file `cache_dir/weights/NAME-ARCHITECTURE` with any suffix of weights.

    Raises WeightsError without the file. It says where to get it, and where to put it.
    """
    weights, architecture = PUBLISHED[name], model_name.split(".")[0]
    stem = cache_dir / "weights" / f"{name}-{architecture}"
    path = next((p for s in SUFFIXES if (p := Path(f"{stem}{s}")).is_file()), None)
    if path is not None:
        return locate_checkpoint(path, cache_dir=cache_dir)
    if architecture not in weights.files:
        raise WeightsError(
            f"init={name}: its authors have published {list_names(list(weights.files))}, not "
            f"{architecture}. Choose one of them as model.name, or other weights."
        )
    file = weights.files[architecture]
    place = f"{stem}{Path(file).suffix}"
    raise WeightsError(
        f"init={name}: there is no file {place}. These weights were trained on {weights.images}. "
        f"Fetch {file} from {weights.page}, and put it there; or keep it anywhere and add "
        "init.weights=FILE."
    )
