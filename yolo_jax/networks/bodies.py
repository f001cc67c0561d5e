"""The bodies of the networks: Darknet-53 and that of YOLOv3-tiny.

Source: Redmon & Farhadi, YOLOv3 (arXiv:1804.02767), table 1; darknet's yolov3-tiny.cfg.
"""

from collections.abc import Sequence
from functools import partial

from flax import nnx
from jaxtyping import Array, Bool, Float

from yolo_jax.core.precision import Precision
from yolo_jax.networks.bands import fills_lanes, halved, joined
from yolo_jax.networks.blocks import ConvBlock, Residual
from yolo_jax.networks.convolution import max_pool
from yolo_jax.networks.normalisation import RowMask


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
                x = max_pool(x, 2, stride=2 if index < 5 else 1)
        return fine, self.reduce(x, row_mask)

    def convolutions(self) -> list[ConvBlock]:
        """Returns the 8 convolutions in the order of the .cfg file."""
        return [*self.blocks, self.reduce]
