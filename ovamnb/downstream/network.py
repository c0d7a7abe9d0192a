"""Small segmentation networks with random weights, from well-maintained libraries.

    module = Segmenter("unet", ("cat", "dog"), (64, 64))
    module(images)                                  # (batch, class + 1, h, w)

Why diffusers' U-Net: after 75 seconds of training on one core with 400 rendered scenes at 64×64, its mIoU is
.24, that of transformers' UperNet .19 and SegFormer .05. MONAI's U-Net reaches .25, no reason for one more
library. At 128×128, where a picture takes longer, none exceeded .11 in 50 to 60 seconds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 4
"""Side of the squares of pixels that the U-Net merges into one."""
MULTIPLE = 32
"""The sides of a network's input are multiples of this: pictures are padded with their edge pixels."""


class UNet(nn.Module):
    """diffusers' U-Net: images (batch, 3, h, w) → logits (batch, class + 1, h / PATCH, w / PATCH)."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        widths = (24, 48, 96)
        self.net = UNet2DModel(
            in_channels=3 * PATCH**2,
            out_channels=labels,
            block_out_channels=widths,
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownBlock2D",) * len(widths),
            up_block_types=("UpBlock2D",) * len(widths),
            add_attention=False,
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(F.pixel_unshuffle(images, PATCH), timestep=0).sample  # no diffusion: no time


class UperNet(nn.Module):
    """transformers' UperNet on a narrow ResNet: images (batch, 3, h, w) → logits (batch, class + 1, h / 4,
    w / 4)."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        from transformers import ResNetConfig, UperNetConfig, UperNetForSemanticSegmentation

        stages = ["stage1", "stage2", "stage3", "stage4"]
        backbone = ResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 32, 64, 128],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=stages,
        )
        self.net = UperNetForSemanticSegmentation(
            UperNetConfig(
                backbone_config=backbone,
                hidden_size=32,
                pool_scales=[2, 4],  # not 1: batch normalisation of one value would fail for a batch of one
                use_auxiliary_head=False,
                num_labels=labels,
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        # As its own forward, which would enlarge the logits too early.
        return self.net.decode_head(self.net.backbone(images).feature_maps)


NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "upernet": UperNet}
RATES = {"unet": 3e-3, "upernet": 4e-3}
"""The peak learning rate of each network."""
DEFAULT = "unet"


def check_network(name: str) -> None:
    """ValueError for a name that is not one of NETWORKS."""
    if name not in NETWORKS:
        raise ValueError(f"There is no network '{name}': choose of {', '.join(NETWORKS)}.")


class Segmenter(nn.Module):
    """A network with its classes and size: images (batch, 3, h, w) in [-1, 1], of any size, → logits
    (batch, class + 1, h, w), the background's first.

    `classes`: the names of labels 1, 2, …. `size` (h, w): into which pictures are scaled to fit.
    """

    def __init__(self, name: str, classes: tuple[str, ...], size: tuple[int, int]) -> None:
        super().__init__()
        check_network(name)
        self.name, self.classes, self.size = name, classes, size
        self.network = NETWORKS[name](len(classes) + 1)

    def forward(self, images: Tensor) -> Tensor:
        h, w = images.shape[-2:]
        images = F.pad(images, (0, -w % MULTIPLE, 0, -h % MULTIPLE), mode="replicate")
        images = images.contiguous(memory_format=torch.channels_last)  # faster, on CPUs as on GPUs
        logits = self.network(images)
        whole = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return whole[..., :h, :w]
