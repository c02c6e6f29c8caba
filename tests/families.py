"""Families of convolutional networks that every test of units, freezing and cutting runs over."""

from dataclasses import dataclass
from functools import cache

import timm
import torch
from torch import Tensor, nn

from tlcnn.model.build import build_model
from tlcnn.model.cut import find_cuts
from tlcnn.model.unit_map import UnitMap
from tlcnn.model.units import compute_partition


@dataclass(frozen=True)
class Family:
    """The smallest network of a family.

    Attributes:
        name: timm architecture.
        pixels: a size at which it trains.
        drop_path: whether the family has stochastic depth.
        uncut: names of the units behind which the network cannot be cut.
        heavy: tried at one depth only in the normal suite, and cut in the slow one.
        mlp_ratio: for VGG, a width of its two large layers at which tests are fast.
    """

    name: str
    pixels: int = 32
    drop_path: bool = True
    uncut: tuple[str, ...] = ()
    heavy: bool = False
    mlp_ratio: float | None = None

    def build(self, seed: int = 0, n_classes: int = 3) -> nn.Module:
        """Build the network with dropout, and dropped paths where the family has them."""
        if self.mlp_ratio is not None:
            torch.manual_seed(seed)
            settings = {"mlp_ratio": self.mlp_ratio, "drop_rate": 0.5}
            return timm.create_model(self.name, num_classes=n_classes, **settings)
        drop_path_rate = 0.5 if self.drop_path else 0.0
        return build_model(
            self.name,
            n_classes=n_classes,
            seed=seed,
            drop_rate=0.5,
            drop_path_rate=drop_path_rate,
        )

    def draw_images(self, seed: int = 0) -> Tensor:
        """Return two random images (2, 3, H, W)."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(2, 3, self.pixels, self.pixels, generator=generator)


@cache
def load_map(name: str, granularity: str = "stage") -> UnitMap:
    """Return a unit map without its cuts, computed once for all tests of a process."""
    return compute_partition(name, granularity=granularity)


@cache
def load_map_with_cuts(name: str) -> UnitMap:
    """Return a unit map, computed once for all tests of a process."""
    return find_cuts(load_map(name))


_HRNET = ("stage1", "stage2", "stage3", "stage4", "neck")

FAMILIES = (
    Family("test_resnet"),
    Family("seresnet18"),
    Family("seresnext26t_32x4d", heavy=True),
    Family("resnext50_32x4d", heavy=True),
    Family("densenet121", heavy=True, drop_path=False),
    Family("vgg11", heavy=True, mlp_ratio=1 / 128, drop_path=False),
    Family("vgg11_bn", heavy=True, mlp_ratio=1 / 128, drop_path=False),
    Family("mobilenetv2_035"),
    Family("mobilenetv3_small_050"),
    Family("mobilenetv4_conv_small_035"),
    Family("efficientnet_b0"),
    Family("tf_efficientnetv2_b0"),
    Family("regnetx_002"),
    Family("regnety_002"),
    Family("test_convnext"),
    Family("convnextv2_atto"),
    Family("inception_v3", heavy=True, pixels=96, drop_path=False),
    Family("legacy_xception", heavy=True, drop_path=False),
    Family("xception41p", heavy=True),
    Family("dpn48b", drop_path=False),
    Family("test_nfnet"),
    Family("resnetv2_18"),
    Family("res2net50_14w_8s", heavy=True),
    Family("cs3darknet_s"),
    Family("dla46x_c", drop_path=False),
    Family("hrnet_w18_small", heavy=True, drop_path=False, uncut=_HRNET),
    Family("ghostnet_050", drop_path=False),
    Family("repvgg_a0"),
    Family("mnasnet_small"),
    Family("edgenext_xx_small"),
    Family("lcnet_035"),
    Family("hgnetv2_b0"),
    Family("ese_vovnet19b_slim_dw"),
)
