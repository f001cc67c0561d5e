"""YOLOv3, with or without spatial pyramid pooling, and YOLOv3-tiny.

Source: Redmon & Farhadi, YOLOv3 (arXiv:1804.02767); darknet's yolov3.cfg, yolov3-spp.cfg and
yolov3-tiny.cfg.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key, Num

from yolo_jax.core.anchors import TINY, YOLOV3, AnchorSet
from yolo_jax.core.precision import Precision
from yolo_jax.networks.blocks import ConvBlock, OutputConv, image_to_unit
from yolo_jax.networks.bodies import Darknet53, TinyBody
from yolo_jax.networks.convolution import spatial_pyramid, upsample
from yolo_jax.networks.normalisation import BatchNorm, RowMask

ANCHORS_PER_SCALE = 3
_OBJECTNESS_PRIOR = 0.01
STRIDE = 32  # of the coarsest scale: input sizes are its multiples


def check_input_size(height: int, width: int, stride: int = STRIDE) -> None:
    """Raises ValueError unless both sides are positive multiples of a network's stride, in px."""
    if height % stride or width % stride or height <= 0 or width <= 0:
        nearest = [max(stride, round(side / stride) * stride) for side in (height, width)]
        raise ValueError(
            f"the input size must be a multiple of {stride} px in height and width; found "
            f"{height}×{width} (nearest: {nearest[0]}×{nearest[1]})"
        )


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


class PyramidHead(DetectionHead):
    """The coarsest scale of YOLOv3-SPP, whose neck pools over wide windows behind its third block.

    Source: darknet's yolov3-spp.cfg; He et al., Spatial Pyramid Pooling (arXiv:1406.4729).
    """

    def __init__(
        self, channels: int, filters: int, outputs: int, *, precision: Precision, rngs: nnx.Rngs
    ) -> None:
        super().__init__(channels, filters, outputs, precision=precision, rngs=rngs)
        after = ConvBlock(4 * filters, filters, 1, precision=precision, rngs=rngs)
        self.neck = nnx.List([*self.neck[:3], after, *self.neck[3:]])

    def __call__(self, x: Float[Array, "b h w c"], row_mask: RowMask) -> tuple[Array, Array]:
        """Returns the features that the next finer scale takes, and the raw predictions."""
        for index, block in enumerate(self.neck):
            x = block(spatial_pyramid(x) if index == 3 else x, row_mask)
        return x, self.output(self.expand(x, row_mask))


class YOLOv3(nnx.Module):
    """YOLOv3 with its Darknet-53 body and three scales.

    Args:
        num_classes: of the data.
        precision: number formats.
        rngs: `params` is drawn from.
    """

    coarse_head: type[DetectionHead] = DetectionHead

    def __init__(
        self, num_classes: int, *, precision: Precision | None = None, rngs: nnx.Rngs
    ) -> None:
        self.num_classes = num_classes
        self.precision = precision = precision or Precision()
        outputs = ANCHORS_PER_SCALE * (5 + num_classes)
        block = partial(ConvBlock, precision=precision, rngs=rngs)
        head = partial(DetectionHead, outputs=outputs, precision=precision, rngs=rngs)
        self.body = Darknet53(precision=precision, rngs=rngs)
        coarse = partial(self.coarse_head, outputs=outputs, precision=precision, rngs=rngs)
        self.coarse = coarse(1024, 512)
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
        x = upsample(self.medium_reduce(x, row_mask))
        x, medium_output = self.medium(jnp.concatenate([x, medium], axis=-1), row_mask)
        x = upsample(self.fine_reduce(x, row_mask))
        _, fine_output = self.fine(jnp.concatenate([x, fine], axis=-1), row_mask)
        return coarse_output, medium_output, fine_output

    def convolutions(self) -> list[ConvBlock | OutputConv]:
        """Returns the convolutions, 75 in the order of yolov3.cfg."""
        return [
            *self.body.convolutions(),
            *self.coarse.convolutions(),
            self.medium_reduce,
            *self.medium.convolutions(),
            self.fine_reduce,
            *self.fine.convolutions(),
        ]


class YOLOv3SPP(YOLOv3):
    """YOLOv3 with spatial pyramid pooling at its coarsest scale: 76 convolutions."""

    coarse_head = PyramidHead


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
        x = upsample(self.fine_reduce(x, row_mask))
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
    "yolov3_spp": (YOLOv3SPP, YOLOV3),
}


def create_network(
    kind: str,
    num_classes: int,
    *,
    seed: int = 0,
    remat: bool = False,
    frozen_batch_norm: bool = False,
    backend: str | None = None,
) -> Network:
    """Returns a new network whose boxes start as unlikely.

    Args:
        kind: a key of `NETWORKS`.
        num_classes: of the data.
        seed: of the kernels' draws.
        remat: training runs each stage of the body a second time for its gradients rather than
            keep all that it computes.
        frozen_batch_norm: training normalises by the moving statistics, and leaves them alone.
        backend: `cpu`, `gpu` or `tpu`, on which it is to run: it decides on the number formats, and
            on how the first features are taken. None asks JAX, which starts its devices.

    Raises:
        ValueError: no such kind, or no class.
    """
    if kind not in NETWORKS:
        raise ValueError(f"there is no network {kind!r}; name one of {', '.join(NETWORKS)}")
    if num_classes < 1:
        raise ValueError(f"a detector needs classes: num_classes is {num_classes}, not 1 or more")
    create = _creator(kind, num_classes, backend or jax.default_backend())
    network = create(jax.random.key(seed))
    network.body.remat = remat
    for _, part in nnx.iter_graph(network):
        if isinstance(part, BatchNorm):
            part.frozen = frozen_batch_norm
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


@cache
def _creator(kind: str, num_classes: int, backend: str) -> Callable[[Key[Array, ""]], Network]:
    """Returns what draws a network; under jit that is one program, whatever the seed."""

    def create(key: Key[Array, ""]) -> Network:
        precision = Precision.for_backend(backend)
        network = NETWORKS[kind][0](num_classes, precision=precision, rngs=nnx.Rngs(key))
        set_objectness_prior(network, _OBJECTNESS_PRIOR)
        if isinstance(network, YOLOv3):
            network.body.halves = backend == "tpu"
        return network

    return nnx.jit(create)
