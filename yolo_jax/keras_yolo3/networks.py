"""YOLOv3 and YOLOv3-tiny as Keras models, layer by layer as keras-yolo3 makes them.

`model.layers` counts and orders the layers as Keras does there, so that scripts which freeze by
index (`model.layers[:185]`) freeze what they mean to, and names them so too, for weights that are
loaded by name. Training that brings no such script is faster
with `networks.yolov3`, whose blocks are single modules.

Source: darknet's yolov3.cfg and yolov3-tiny.cfg; the order of layers is Keras's own.
"""

from functools import partial

from yolo_jax.core.numbers import whole_number
from yolo_jax.model.graph import SymbolicTensor
from yolo_jax.model.layers import (
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    LeakyReLU,
    MaxPooling2D,
    UpSampling2D,
    ZeroPadding2D,
)
from yolo_jax.model.model import Model
from yolo_jax.model.regularizers import l2

_STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))  # filters and residual blocks
_STRIDE = 32  # px of the input that a cell of the coarsest scale covers


def yolo_body(inputs: SymbolicTensor, num_anchors: int, num_classes: int) -> Model:
    """Returns YOLOv3: 252 layers, of which the first 185 are the body, the last 3 the outputs.

    Args:
        inputs: `[b, h, w, 3]`, RGB of 0–1; height and width may be None.
        num_anchors: of each scale, 3.
        num_classes: C.

    Returns:
        A model whose outputs are the raw predictions `[b, h/32, w/32, anchors*(5+C)]`, `[b, h/16,
        …]`, `[b, h/8, …]`.

    Raises:
        TypeError: the inputs are no `Input`.
        ValueError: the inputs are no images, their height or width is no multiple of 32, or there
            are no anchors or classes.
    """
    _check(inputs, num_anchors, num_classes)
    outputs = num_anchors * (num_classes + 5)
    x = _conv_norm_leaky(inputs, 32, 3)
    features = []
    for filters, blocks in _STAGES:
        x = _conv_norm_leaky(ZeroPadding2D(((1, 0), (1, 0)))(x), filters, 3, strides=2)
        for _ in range(blocks):
            inner = _conv_norm_leaky(_conv_norm_leaky(x, filters // 2, 1), filters, 3)
            x = Add()([x, inner])
        features.append(x)
    x, coarse = _scale(x, 512, outputs)
    x = UpSampling2D(2)(_conv_norm_leaky(x, 256, 1))
    x, medium = _scale(Concatenate()([x, features[3]]), 256, outputs)
    x = UpSampling2D(2)(_conv_norm_leaky(x, 128, 1))
    _, fine = _scale(Concatenate()([x, features[2]]), 128, outputs)
    return Model(inputs, [coarse, medium, fine])


def tiny_yolo_body(inputs: SymbolicTensor, num_anchors: int, num_classes: int) -> Model:
    """Returns YOLOv3-tiny: the first 20 layers are the body, the last 2 the outputs.

    Args:
        inputs: `[b, h, w, 3]`, RGB of 0–1; height and width may be None.
        num_anchors: of each scale, 3.
        num_classes: C.

    Returns:
        A model whose outputs are the raw predictions `[b, h/32, w/32, anchors*(5+C)]` and
        `[b, h/16, …]`.

    Raises:
        TypeError: the inputs are no `Input`.
        ValueError: the inputs are no images, their height or width is no multiple of 32, or there
            are no anchors or classes.
    """
    _check(inputs, num_anchors, num_classes)
    outputs = num_anchors * (num_classes + 5)
    pool = partial(MaxPooling2D, pool_size=2, padding="same")
    x = _conv_norm_leaky(inputs, 16, 3)
    for filters in (32, 64, 128, 256):
        x = _conv_norm_leaky(pool(strides=2)(x), filters, 3)
    fine = x
    x = _conv_norm_leaky(pool(strides=2)(x), 512, 3)
    x = _conv_norm_leaky(pool(strides=1)(x), 1024, 3)
    x = _conv_norm_leaky(x, 256, 1)
    coarse = _output(_conv_norm_leaky(x, 512, 3), outputs)
    x = UpSampling2D(2)(_conv_norm_leaky(x, 128, 1))
    x = _conv_norm_leaky(Concatenate()([x, fine]), 256, 3)
    return Model(inputs, [coarse, _output(x, outputs)])


def _check(inputs: SymbolicTensor, num_anchors: int, num_classes: int) -> None:
    """Raises ValueError if the finer scales would not get back the sizes that were halved.

    Or if there are no anchors or classes; TypeError if the inputs are no symbolic tensor.
    """
    if not isinstance(inputs, SymbolicTensor):
        raise TypeError(
            f"inputs is an Input, such as Input((None, None, 3)); found {type(inputs).__name__}"
        )
    whole_number("num_anchors", num_anchors, 1)
    whole_number("num_classes", num_classes, 1)
    shape = tuple(inputs.shape[1:])
    if len(shape) != 3 or any(side is not None and side % _STRIDE for side in shape[:2]):
        raise ValueError(
            f"the input {inputs.name!r} is of images (height, width, channels), with height and "
            f"width multiples of {_STRIDE} or None; found {shape}"
        )


def _scale(x: SymbolicTensor, filters: int, outputs: int) -> tuple[SymbolicTensor, SymbolicTensor]:
    """Returns the features that the next finer scale takes, and the raw predictions."""
    for factor, size in ((1, 1), (2, 3), (1, 1), (2, 3), (1, 1)):
        x = _conv_norm_leaky(x, factor * filters, size)
    return x, _output(_conv_norm_leaky(x, 2 * filters, 3), outputs)


def _output(x: SymbolicTensor, filters: int) -> SymbolicTensor:
    """Returns the raw predictions. Made after what it reads, so that it is named as Keras's is."""
    return _convolution(filters, 1)(x)


def _conv_norm_leaky(
    x: SymbolicTensor, filters: int, size: int, *, strides: int = 1
) -> SymbolicTensor:
    x = _convolution(filters, size, strides=strides, use_bias=False)(x)
    return LeakyReLU(alpha=0.1)(BatchNormalization()(x))


def _convolution(filters: int, size: int, *, strides: int = 1, use_bias: bool = True) -> Conv2D:
    return Conv2D(
        filters,
        size,
        strides=strides,
        # Halving ones are padded by a layer of their own, left and top alone.
        padding="valid" if strides == 2 else "same",
        use_bias=use_bias,
        kernel_regularizer=l2(5e-4),
    )
