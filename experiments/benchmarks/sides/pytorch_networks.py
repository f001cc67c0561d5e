"""YOLOv3 and YOLOv3-tiny in plain PyTorch: what the sides run."""
# pyright: reportMissingImports=false

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, leaky ReLU in place."""

    def __init__(self, channels: int, filters: int, size: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, filters, size, stride, padding=size // 2, bias=False),
            nn.BatchNorm2d(filters, eps=1e-6, momentum=0.01),
            nn.LeakyReLU(0.1, inplace=True),
        )

    def folded(self) -> nn.Sequential:
        """Returns the block of evaluation, with the normalisation in the convolution."""
        convolution, norm, activation = self
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return nn.Sequential(fuse_conv_bn_eval(convolution, norm), activation)


class Residual(nn.Module):
    """1×1 to half the channels, 3×3 back, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvBlock(channels, channels // 2, 1)
        self.expand = ConvBlock(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the input plus what the two convolutions make of it."""
        return x + self.expand(self.reduce(x))


def _stage(channels: int, blocks: int) -> nn.Sequential:
    down = ConvBlock(channels, 2 * channels, 3, stride=2)
    return nn.Sequential(down, *(Residual(2 * channels) for _ in range(blocks)))


def _neck(channels: int, filters: int) -> nn.Sequential:
    blocks, inside = [], channels
    for _ in range(2):
        blocks += [ConvBlock(inside, filters, 1), ConvBlock(filters, 2 * filters, 3)]
        inside = 2 * filters
    return nn.Sequential(*blocks, ConvBlock(inside, filters, 1))


def _head(filters: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(ConvBlock(filters, 2 * filters, 3), nn.Conv2d(2 * filters, outputs, 1))


class YOLOv3(nn.Module):
    """Darknet-53 and three scales."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        outputs = 3 * (5 + num_classes)
        self.stem = ConvBlock(3, 32, 3)
        blocks = (1, 2, 8, 8, 4)
        self.stages = nn.ModuleList(_stage(32 << i, count) for i, count in enumerate(blocks))
        self.necks = nn.ModuleList([_neck(1024, 512), _neck(768, 256), _neck(384, 128)])
        self.lifts = nn.ModuleList([ConvBlock(512, 256, 1), ConvBlock(256, 128, 1)])
        self.heads = nn.ModuleList(_head(filters, outputs) for filters in (512, 256, 128))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the raw heads, coarse to fine."""
        x = self.stem(x)
        kept = []
        for stage in self.stages:
            x = stage(x)
            kept.append(x)
        found = []
        for scale, (neck, head) in enumerate(zip(self.necks, self.heads, strict=True)):
            if scale:
                x = functional.interpolate(self.lifts[scale - 1](x), scale_factor=2.0)
                x = torch.cat([x, kept[-1 - scale]], dim=1)
            x = neck(x)
            found.append(head(x))
        return found


class TinyYOLOv3(nn.Module):
    """Seven convolutions between poolings, and two scales; in the order of Darknet's file."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        outputs = 3 * (5 + num_classes)
        widths = (3, 16, 32, 64, 128, 256, 512, 1024)
        self.body = nn.ModuleList(
            ConvBlock(channels, filters, 3)
            for channels, filters in zip(widths[:-1], widths[1:], strict=True)
        )
        self.neck = ConvBlock(1024, 256, 1)
        self.coarse = _head(256, outputs)
        self.lift = ConvBlock(256, 128, 1)
        self.fine = _head_of(384, 256, outputs)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the raw heads, coarse to fine."""
        fine = x
        for index, block in enumerate(self.body):
            x = block(x)
            if index == 4:
                fine = x
            if index < 5:
                x = functional.max_pool2d(x, 2)
            elif index == 5:
                x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-torch.inf), 2, 1)
        x = self.neck(x)
        lifted = functional.interpolate(self.lift(x), scale_factor=2.0)
        return [self.coarse(x), self.fine(torch.cat([lifted, fine], dim=1))]


def _head_of(channels: int, filters: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(ConvBlock(channels, filters, 3), nn.Conv2d(filters, outputs, 1))


NETWORKS = {"yolov3": YOLOv3, "tiny": TinyYOLOv3}


def folded_network(options: argparse.Namespace) -> nn.Module:
    """Returns the network, batch normalisation folded; with Darknet's weights where they are named.

    Without them nothing is found: objectness begins at 1 %, as ours does.
    """
    model = NETWORKS[options.network](options.classes).eval()
    if options.weights is not None:
        read_weights(model, options.weights)
    else:
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                with torch.no_grad():
                    module.bias.view(3, -1)[:, 4] = -math.log(99)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, ConvBlock):
                setattr(module, name, child.folded())
    return model


def read_weights(model: nn.Module, path: Path) -> None:
    """Reads a Darknet `.weights` file of version 0.2, whose order is that of tiny's modules."""
    values, used = torch.from_numpy(np.fromfile(path, np.float32, offset=20)), 0
    with torch.no_grad():
        modules = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
        for index, module in enumerate(modules):
            if isinstance(module, nn.BatchNorm2d):
                continue
            assert module.weight is not None
            parts = [module.bias] if module.bias is not None else []
            if not parts:
                norm = modules[index + 1]
                assert isinstance(norm, nn.BatchNorm2d)
                parts = [norm.bias, norm.weight, norm.running_mean, norm.running_var]
            for part in (*parts, module.weight):
                assert part is not None
                part.copy_(values[used : used + part.numel()].view_as(part))
                used += part.numel()
    assert used == len(values), (used, len(values))
