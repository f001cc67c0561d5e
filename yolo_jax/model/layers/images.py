"""What all layers over images share: NHWC arrays."""

from typing import ClassVar, Unpack

from yolo_jax.model.graph import LayerOptions
from yolo_jax.model.layers.single_input import SingleInput


class ImageOptions(LayerOptions, total=False):
    """Keywords of layers over images.

    Attributes:
        data_format: `channels_last` or None; there is no other.
    """

    data_format: str | None


class ImageLayer(SingleInput):
    """A layer over `[b, h, w, c]`.

    Args:
        data_format: see `ImageOptions`.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: another data format.
    """

    rank: ClassVar[int | None] = 4

    def __init__(self, data_format: str | None = None, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if data_format not in (None, "channels_last"):
            raise ValueError(
                f"layer {self.name!r}: arrays are [batch, height, width, channels]; found "
                f"data_format={data_format!r}: leave it out, and transpose the data"
            )
