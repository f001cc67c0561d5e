"""Darknet-53, YOLOv3 and YOLOv3-tiny.

Source: Redmon & Farhadi, YOLOv3 (arXiv:1804.02767); darknet's yolov3.cfg and yolov3-tiny.cfg.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Num

from yolo_jax.core.anchors import TINY, YOLOV3, AnchorSet
from yolo_jax.core.precision import Precision
from yolo_jax.networks.bands import fills_lanes, halved, joined
from yolo_jax.networks.blocks import ConvBlock, OutputConv, Residual, image_to_unit
from yolo_jax.networks.convolution import max_pool_2x2, upsample_2x
from yolo_jax.networks.normalisation import RowMask

ANCHORS_PER_SCALE = 3
_OBJECTNESS_PRIOR = 0.01
STRIDE = 32  # of the coarsest scale: input sizes are its multiples


def check_input_size(height: int, width: int) -> None:
    """Raises ValueError unless both sides are positive multiples of 32 px."""
    if height % STRIDE or width % STRIDE or height <= 0 or width <= 0:
        raise ValueError(
            f"the input size must be a multiple of {STRIDE} px in height and width; found "
            f"{height}×{width} (nearest: {_nearest(height)}×{_nearest(width)})"
        )


def _nearest(side: int) -> int:
    return max(STRIDE, round(side / STRIDE) * STRIDE)


def _in_turn(
    blocks: Sequence[ConvBlock | Residual], x: Float[Array, "b h w c"], row_mask: RowMask
) -> Float[Array, "b h2 w2 d"]:
    for block in blocks:
        x = block(x, row_mask)
    return x


class Darknet53(nnx.Module):
    """The body of YOLOv3: five stages of residual blocks, each halving the resolution.

    Attributes:
        halves: take the first features in halves of images, where that fills a TPU's lanes; see
            `bands`. It changes the result by rounding alone.
        remat: keep each stage's input alone for its gradients, and run the stage again for them.
    """

    stage_blocks = (1, 2, 8, 8, 4)
    remat = False

    def __init__(self, *, precision: Precision, rngs: nnx.Rngs, halves: bool = False) -> None:
        block = partial(ConvBlock, precision=precision, rngs=rngs)
        self.halves = halves
        self.stem = block(3, 32, 3)
        downsamples, stages = [], []
        for index, count in enumerate(self.stage_blocks):
            channels = 64 * 2**index
            downsamples.append(block(channels // 2, channels, 3, stride=2))
            stages.append(
                nnx.List([Residual(channels, precision=precision, rngs=rngs) for _ in range(count)])
            )
        self.downsamples = nnx.List(downsamples)
        self.stages = nnx.List(stages)

    def __call__(
        self, image: Float[Array, "b h w 3"], row_mask: Bool[Array, "b"] | None = None
    ) -> tuple[Array, Array, Array]:
        """Returns the features at strides 8, 16 and 32 (256, 512 and 1024 channels)."""
        run = nnx.remat(_in_turn) if self.remat else _in_turn
        # To stride 4, where halves are joined.
        first = [self.stem, self.downsamples[0], *self.stages[0], self.downsamples[1]]
        if self.halves and fills_lanes(len(image)):
            halves, bands = halved(image, row_mask)
            x = joined(run(first, halves, bands), bands)
        else:
            x = run(first, image, row_mask)
        x = run([*self.stages[1]], x, row_mask)
        features = []
        for downsample, stage in zip(self.downsamples[2:], self.stages[2:], strict=True):
            x = run([downsample, *stage], x, row_mask)
            features.append(x)
        return features[0], features[1], features[2]

    def convolutions(self) -> list[ConvBlock]:
        """Returns the 52 convolutions in the order of the .cfg file."""
        found = [self.stem]
        for downsample, stage in zip(self.downsamples, self.stages, strict=True):
            found.append(downsample)
            for residual in stage:
                found += [residual.reduce, residual.expand]
        return found


class DetectionHead(nnx.Module):
    """One scale of YOLOv3's neck: five alternating convolutions, then a 3×3 and the output."""

    def __init__(
        self, channels: int, filters: int, outputs: int, *, precision: Precision, rngs: nnx.Rngs
    ) -> None:
        block = partial(ConvBlock, precision=precision, rngs=rngs)
        self.neck = nnx.List(
            [
                block(channels, filters, 1),
                block(filters, 2 * filters, 3),
                block(2 * filters, filters, 1),
                block(filters, 2 * filters, 3),
                block(2 * filters, filters, 1),
            ]
        )
        self.expand = block(filters, 2 * filters, 3)
        self.output = OutputConv(2 * filters, outputs, precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], row_mask: RowMask) -> tuple[Array, Array]:
        """Returns the features that the next finer scale takes, and the raw predictions."""
        for block in self.neck:
            x = block(x, row_mask)
        return x, self.output(self.expand(x, row_mask))

    def convolutions(self) -> list[ConvBlock | OutputConv]:
        """Returns the convolutions in the order of the .cfg file."""
        return [*self.neck, self.expand, self.output]


class YOLOv3(nnx.Module):
    """YOLOv3 with its Darknet-53 body and three scales.

    Args:
        num_classes: of the data.
        precision: number formats.
        rngs: `params` is drawn from.
    """

    def __init__(
        self, num_classes: int, *, precision: Precision | None = None, rngs: nnx.Rngs
    ) -> None:
        self.num_classes = num_classes
        self.precision = precision = precision or Precision()
        outputs = ANCHORS_PER_SCALE * (5 + num_classes)
        block = partial(ConvBlock, precision=precision, rngs=rngs)
        head = partial(DetectionHead, outputs=outputs, precision=precision, rngs=rngs)
        self.body = Darknet53(precision=precision, rngs=rngs)
        self.coarse = head(1024, 512)
        self.medium_reduce = block(512, 256, 1)
        self.medium = head(256 + 512, 256)
        self.fine_reduce = block(256, 128, 1)
        self.fine = head(128 + 256, 128)

    def __call__(
        self, image: Num[Array, "b h w 3"], row_mask: Bool[Array, "b"] | None = None
    ) -> tuple[Array, Array, Array]:
        """Predicts three scales, coarse to fine.

        Args:
            image: RGB, uint8 or 0–1; height and width are multiples of 32.
            row_mask: False marks rows that only fill the batch.

        Returns:
            Raw predictions `[b, h/32, w/32, 3*(5+C)]`, `[b, h/16, …]`, `[b, h/8, …]`, float32.

        Raises:
            ValueError: the input size is no multiple of 32.
        """
        check_input_size(*image.shape[1:3])
        fine, medium, x = self.body(image_to_unit(image, self.precision), row_mask)
        x, coarse_output = self.coarse(x, row_mask)
        x = upsample_2x(self.medium_reduce(x, row_mask))
        x, medium_output = self.medium(jnp.concatenate([x, medium], axis=-1), row_mask)
        x = upsample_2x(self.fine_reduce(x, row_mask))
        _, fine_output = self.fine(jnp.concatenate([x, fine], axis=-1), row_mask)
        return coarse_output, medium_output, fine_output

    def convolutions(self) -> list[ConvBlock | OutputConv]:
        """Returns the 75 convolutions in the order of yolov3.cfg."""
        return [
            *self.body.convolutions(),
            *self.coarse.convolutions(),
            self.medium_reduce,
            *self.medium.convolutions(),
            self.fine_reduce,
            *self.fine.convolutions(),
        ]


class TinyBody(nnx.Module):
    """The body of YOLOv3-tiny: seven convolutions with max-pools between, then a 1×1.

    Attributes:
        remat: keep each convolution's input alone for its gradients, and run it again for them.
    """

    filters = (16, 32, 64, 128, 256, 512, 1024)
    remat = False

    def __init__(self, *, precision: Precision, rngs: nnx.Rngs) -> None:
        block = partial(ConvBlock, precision=precision, rngs=rngs)
        channels = (3, *self.filters[:-1])
        self.blocks = nnx.List(
            [block(c, f, 3) for c, f in zip(channels, self.filters, strict=True)]
        )
        self.reduce = block(1024, 256, 1)

    def __call__(self, x: Float[Array, "b h w 3"], row_mask: RowMask) -> tuple[Array, Array]:
        """Returns the features at strides 16 and 32 (256 channels each)."""
        fine = x
        run = nnx.remat(_in_turn) if self.remat else _in_turn
        for index, block in enumerate(self.blocks):
            x = run([block], x, row_mask)
            if index == 4:
                fine = x
            if index < 6:
                x = max_pool_2x2(x, stride=2 if index < 5 else 1)
        return fine, self.reduce(x, row_mask)

    def convolutions(self) -> list[ConvBlock]:
        """Returns the 8 convolutions in the order of the .cfg file."""
        return [*self.blocks, self.reduce]


class TinyYOLOv3(nnx.Module):
    """YOLOv3-tiny with two scales.

    Args:
        num_classes: of the data.
        precision: number formats.
        rngs: `params` is drawn from.
    """

    def __init__(
        self, num_classes: int, *, precision: Precision | None = None, rngs: nnx.Rngs
    ) -> None:
        self.num_classes = num_classes
        self.precision = precision = precision or Precision()
        outputs = ANCHORS_PER_SCALE * (5 + num_classes)
        block = partial(ConvBlock, precision=precision, rngs=rngs)
        output = partial(OutputConv, precision=precision, rngs=rngs)
        self.body = TinyBody(precision=precision, rngs=rngs)
        self.coarse_expand = block(256, 512, 3)
        self.coarse_output = output(512, outputs)
        self.fine_reduce = block(256, 128, 1)
        self.fine_expand = block(128 + 256, 256, 3)
        self.fine_output = output(256, outputs)

    def __call__(
        self, image: Num[Array, "b h w 3"], row_mask: Bool[Array, "b"] | None = None
    ) -> tuple[Array, Array]:
        """Predicts two scales, coarse to fine.

        Args:
            image: RGB, uint8 or 0–1; height and width are multiples of 32.
            row_mask: False marks rows that only fill the batch.

        Returns:
            Raw predictions `[b, h/32, w/32, 3*(5+C)]` and `[b, h/16, w/16, 3*(5+C)]`, float32.

        Raises:
            ValueError: the input size is no multiple of 32.
        """
        check_input_size(*image.shape[1:3])
        fine, x = self.body(image_to_unit(image, self.precision), row_mask)
        coarse_output = self.coarse_output(self.coarse_expand(x, row_mask))
        x = upsample_2x(self.fine_reduce(x, row_mask))
        x = self.fine_expand(jnp.concatenate([x, fine], axis=-1), row_mask)
        return coarse_output, self.fine_output(x)

    def convolutions(self) -> list[ConvBlock | OutputConv]:
        """Returns the 13 convolutions in the order of yolov3-tiny.cfg."""
        return [
            *self.body.convolutions(),
            self.coarse_expand,
            self.coarse_output,
            self.fine_reduce,
            self.fine_expand,
            self.fine_output,
        ]


Network = TinyYOLOv3 | YOLOv3
# Each kind's class and the anchors that it was made for.
NETWORKS: dict[str, tuple[type[Network], AnchorSet]] = {
    "tiny": (TinyYOLOv3, TINY),
    "yolov3": (YOLOv3, YOLOV3),
}


def create_network(
    kind: str, num_classes: int, *, seed: int = 0, remat: bool = False, backend: str | None = None
) -> Network:
    """Returns a new network whose boxes start as unlikely.

    Args:
        kind: a key of `NETWORKS`.
        num_classes: of the data.
        seed: of the kernels' draws.
        remat: training runs each stage of the body a second time for its gradients rather than
            keep all that it computes.
        backend: `cpu`, `gpu` or `tpu`, on which it is to run: it decides on the number formats, and
            on how the first features are taken. None asks JAX, which starts its devices.

    Raises:
        ValueError: no such kind, or no class.
    """
    if kind not in NETWORKS:
        raise ValueError(f"there is no network {kind!r}; name one of {', '.join(NETWORKS)}")
    if num_classes < 1:
        raise ValueError(f"a detector needs classes: num_classes is {num_classes}, not 1 or more")
    kind_of_network, _ = NETWORKS[kind]
    backend = backend or jax.default_backend()

    def create() -> Network:
        precision = Precision.for_backend(backend)
        network = kind_of_network(num_classes, precision=precision, rngs=nnx.Rngs(seed))
        set_objectness_prior(network, _OBJECTNESS_PRIOR)
        if isinstance(network, YOLOv3):
            network.body.halves = backend == "tpu"
        return network

    # Under jit the draws of all kernels are one program.
    network = nnx.jit(create)()
    network.body.remat = remat
    return network


def set_objectness_prior(network: Network, probability: float) -> None:
    """Sets the heads' objectness biases so that every box starts with this probability.

    From biases of 0, thousands of empty boxes an image start with 0.5: training from scratch spends
    its first epochs on unlearning them.

    Args:
        network: changed in place.
        probability: above 0 and below 1.

    Source: Lin et al., Focal Loss for Dense Object Detection (arXiv:1708.02002), section 4.1.
    """
    logit = -math.log((1 - probability) / probability)
    for convolution in network.convolutions():
        if isinstance(convolution, OutputConv):
            bias = convolution.bias[...].reshape(ANCHORS_PER_SCALE, 5 + network.num_classes)
            convolution.bias[...] = bias.at[:, 4].set(logit).reshape(-1)
