"""Families of convolutional networks that every test of units, freezing and cutting runs over."""

from dataclasses import dataclass
from functools import cache

import timm
import torch
from torch import Tensor, nn

from tlcnn.model.build import build_model
from tlcnn.model.cut import find_cuts
from tlcnn.model.norms import is_norm
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


def list_norms(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the path and the module of every normalisation in a network."""
    return [(path, module) for path, module in model.named_modules() if is_norm(module)]


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
    Family("seresnet18", heavy=True),
    Family("seresnext26t_32x4d", heavy=True),
    Family("resnext50_32x4d", heavy=True),
    Family("densenet121", heavy=True, drop_path=False),
    Family("vgg11", heavy=True, mlp_ratio=1 / 128, drop_path=False),
    Family("vgg11_bn", heavy=True, mlp_ratio=1 / 128, drop_path=False),
    Family("mobilenetv2_035"),
    Family("mobilenetv3_small_050"),
    Family("mobilenetv4_conv_small_035"),
    Family("efficientnet_b0", heavy=True),
    Family("tf_efficientnetv2_b0", heavy=True),
    Family("regnetx_002"),
    Family("regnety_002", heavy=True),
    Family("test_convnext"),
    Family("convnextv2_atto"),
    Family("inception_v3", heavy=True, pixels=96, drop_path=False),
    Family("legacy_xception", heavy=True, drop_path=False),
    Family("xception41p", heavy=True),
    Family("dpn48b", heavy=True, drop_path=False),
    Family("test_nfnet"),
    Family("resnetv2_18", heavy=True),
    Family("res2net50_14w_8s", heavy=True),
    Family("cs3darknet_s"),
    Family("dla46x_c", drop_path=False),
    Family("hrnet_w18_small", heavy=True, drop_path=False, uncut=_HRNET),
    Family("ghostnet_050", drop_path=False),
    Family("repvgg_a0", heavy=True),
    Family("mnasnet_small"),
    Family("edgenext_xx_small"),
    Family("lcnet_035"),
    Family("hgnetv2_b0", heavy=True),
    Family("ese_vovnet19b_slim_dw"),
)

# More of them, for the slow suite: other widths, norms, attention blocks and downsamplings.
MORE_FAMILIES = (
    Family("resnet10t"),
    Family("resnet18d"),
    Family("resnext26ts"),
    Family("ecaresnet26t"),
    Family("resnetblur50"),
    Family("resnetaa50"),
    Family("legacy_seresnet18", drop_path=False),
    Family("seresnext50_32x4d"),
    Family("densenetblur121d", drop_path=False),
    Family("mobilenetv2_050"),
    Family("mobilenetv3_large_100"),
    Family("mobilenetv4_hybrid_medium"),
    Family("efficientnet_lite0"),
    Family("tf_efficientnet_b0"),
    Family("gc_efficientnetv2_rw_t"),
    Family("mixnet_s"),
    Family("spnasnet_100"),
    Family("fbnetc_100"),
    Family("fbnetv3_b"),
    Family("tinynet_e"),
    Family("hardcorenas_b"),
    Family("semnasnet_075"),
    Family("regnetz_b16"),
    Family("regnetv_040"),
    Family("convnext_atto"),
    Family("inception_v4", pixels=96, drop_path=False),
    Family("inception_resnet_v2", pixels=96, drop_path=False),
    Family("inception_next_atto"),
    Family("xception41"),
    Family("dpn68", drop_path=False),
    Family("nf_regnet_b0"),
    Family("nf_resnet26"),
    Family("eca_nfnet_l0"),
    Family("resnetv2_50"),
    Family("resnetv2_50x1_bit"),
    Family("resnetv2_50d_evos"),
    Family("resnetv2_50d_frn"),
    Family("resnetv2_50d_gn"),
    Family("res2next50"),
    Family("cs3darknet_focus_s"),
    Family("cspresnet50"),
    Family("cspresnext50"),
    Family("cspdarknet53"),
    Family("darknet53"),
    Family("cspnext_tiny"),
    Family("dla34", drop_path=False),
    Family("dla60_res2net", drop_path=False),
    Family("ghostnetv2_100", pixels=64, drop_path=False),
    Family("ghostnetv3_050", pixels=64, drop_path=False),
    Family("test_byobnet"),
    Family("mobileone_s0"),
    Family("gernet_s"),
    Family("rexnet_100"),
    Family("rexnetr_100"),
    Family("resnest14d"),
    Family("skresnet18"),
    Family("skresnext50_32x4d"),
    Family("selecsls42", drop_path=False, uncut=("stem", "stage1", "stage2", "stage3", "stage4")),
    Family("tresnet_m"),
    Family("ese_vovnet19b_dw"),
    Family("hgnet_tiny"),
    Family("convmixer_768_32", drop_path=False),
    Family("repghostnet_050", drop_path=False),
    Family("starnet_s050"),
    Family("fasternet_t0"),
    Family("mambaout_femto", uncut=("neck",)),
    Family("rdnet_tiny"),
    Family("lcnetv2_small", drop_path=False),
    Family("lambda_resnet26t"),
    Family("gcresnext26ts"),
    Family("bat_resnext26ts", pixels=256),
    Family("resnet33ts"),
    Family("test_efficientnet_gn"),
    Family("test_efficientnet_ln"),
    Family("test_efficientnet_evos"),
    Family("csatv2", pixels=64),
    Family("convformer_s18"),
    Family("poolformerv2_s12"),
    Family("efficientvit_b0", drop_path=False),
    Family("fastvit_t8"),
    Family("repvit_m0_9", drop_path=False, uncut=("stage4",)),
    Family("pnasnet5large", drop_path=False, uncut=("stem", "stage1", "stage2")),
)
