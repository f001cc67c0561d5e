"""Images and annotation lines, as keras-yolo3's generator reads and distorts them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image

from yolo_jax.data.images import read_image
from yolo_jax.data.letterbox import letterbox_bicubic, letterbox_geometry
from yolo_jax.data.readers.keras_yolo3 import meant_as_box, parse_line
from yolo_jax.keras_yolo3.arguments import sides

_GREY = (128, 128, 128)


def letterbox_image(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Fits an image into (width, height) px: bicubic, centred on grey, its aspect kept.

    Raises:
        TypeError: the image is none of Pillow's.
        ValueError: the size is no pair of whole numbers.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"letterbox_image takes an image of Pillow's; found {type(image).__name__}: "
            "Image.fromarray(array) makes one of uint8 RGB"
        )
    width, height = sides("size", "(width, height)", size)
    pixels, _ = letterbox_bicubic(np.asarray(image.convert("RGB")), (height, width))
    return Image.fromarray(pixels)


def get_random_data(
    annotation_line: str,
    input_shape: Sequence[int],
    random: bool = True,
    max_boxes: int = 20,
    jitter: float = 0.3,
    hue: float = 0.1,
    sat: float = 1.5,
    val: float = 1.5,
    proc_img: bool = True,
) -> tuple[Float[np.ndarray, "h w 3"] | int, Float[np.ndarray, "max_boxes 5"]]:
    """Reads an annotated image and distorts it; draws from NumPy's global random numbers.

    Args:
        annotation_line: `path xmin,ymin,xmax,ymax,class …`; the path may hold spaces.
        input_shape: (height, width) of the result, px.
        random: distort; False letterboxes.
        max_boxes: rows of the boxes; an image's others are left out.
        jitter: greatest relative change of the image's width and of its height, for its aspect.
        hue: greatest shift of the hue, of the full circle.
        sat: greatest factor or divisor of the saturation.
        val: the same of the value.
        proc_img: with `random` False: read the pixels; otherwise 0 stands in their place.

    Returns:
        RGB of 0–1, and (xmin, ymin, xmax, ymax, class) in its pixels, zeros for no box.

    Raises:
        FileNotFoundError: there is no such image.
        ImageError: the file is cut short, or not an image.
        TypeError: the line is no text.
        ValueError: the line names no image, or a box in it is not of five numbers; `input_shape` is
            no pair of whole numbers.
    """
    if not isinstance(annotation_line, str):
        raise TypeError(
            "annotation_line is a text, `path xmin,ymin,xmax,ymax,class …`; found "
            f"{type(annotation_line).__name__}"
        )
    height, width = sides("input_shape", "(height, width)", input_shape)
    path, boxes = parse_line(annotation_line)
    image = Image.fromarray(_read(path))
    if not random:
        place = letterbox_geometry((image.height, image.width), (height, width))
        size = (round(image.width * place.scale_x), round(image.height * place.scale_y))
        origin = (int(place.offset_x), int(place.offset_y))
        pixels = np.asarray(letterbox_image(image, (width, height))) / 255.0 if proc_img else 0
        return pixels, _place(boxes, image.size, size, origin, max_boxes)

    size = _random_size(image.size, (width, height), jitter)
    origin = (int(_draw(0, width - size[0])), int(_draw(0, height - size[1])))
    canvas = Image.new("RGB", (width, height), _GREY)
    canvas.paste(image.resize(size, Image.Resampling.BICUBIC), origin)
    flip = _draw() < 0.5
    if flip:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = _recolour(np.asarray(canvas) / 255.0, hue, sat, val)
    limits = (width, height)
    return pixels, _place(boxes, image.size, size, origin, max_boxes, limits, flip=flip)


def _read(path: str) -> UInt8[np.ndarray, "h w 3"]:
    """Reads the image of a line.

    Raises:
        ValueError: there is none, because a box that is not understood was taken for its name.
    """
    try:
        return read_image(path)
    except FileNotFoundError:
        word = meant_as_box(path)
        if word is None:
            raise
        raise ValueError(
            f"there is no image {path!r}, which an annotation line names with {word!r} as a part "
            "of the path. If that was meant as a box: expected `xmin,ymin,xmax,ymax,class`, five "
            "numbers without spaces between"
        ) from None


def _draw(low: float = 0.0, high: float = 1.0) -> float:
    return np.random.rand() * (high - low) + low  # noqa: NPY002 - scripts seed the global one


def _random_size(
    image_size: tuple[int, int], input_size: tuple[int, int], jitter: float
) -> tuple[int, int]:
    """Draws the (width, height) that the image is resized to."""
    width, height = input_size
    aspect = width / height * _draw(1 - jitter, 1 + jitter) / _draw(1 - jitter, 1 + jitter)
    scale = _draw(0.25, 2)
    if aspect < 1:
        new_height = int(scale * height)
        return max(1, int(new_height * aspect)), max(1, new_height)
    new_width = int(scale * width)
    return max(1, new_width), max(1, int(new_width / aspect))


def _recolour(
    pixels: Float[np.ndarray, "h w 3"], hue: float, sat: float, val: float
) -> Float[np.ndarray, "h w 3"]:
    shift = _draw(-hue, hue)
    saturation, value = (
        _draw(1, most) if _draw() < 0.5 else 1 / _draw(1, most) for most in (sat, val)
    )
    hsv = rgb_to_hsv(pixels)
    hsv[..., 0] = (hsv[..., 0] + shift) % 1.0
    hsv[..., 1:] = np.clip(hsv[..., 1:] * (saturation, value), 0, 1)
    return hsv_to_rgb(hsv)


def _place(
    boxes: Float[np.ndarray, "n 5"],
    image_size: tuple[int, int],
    size: tuple[int, int],
    origin: tuple[int, int],
    max_boxes: int,
    limits: tuple[int, int] | None = None,
    *,
    flip: bool = False,
) -> Float[np.ndarray, "max_boxes 5"]:
    """Moves boxes along with their image, in a random order.

    Args:
        boxes: in pixels of the image.
        image_size: (width, height) of the image.
        size: (width, height) that it was resized to.
        origin: (x, y) where it was put.
        max_boxes: rows of the result.
        limits: (width, height) that boxes are clipped to; those of a pixel or less then go.
        flip: mirrored left to right, within `limits`.
    """
    boxes = boxes.copy()
    np.random.shuffle(boxes)  # noqa: NPY002 - scripts seed the global one
    scale = np.divide(size, image_size)
    boxes[:, :4] = boxes[:, :4] * np.tile(scale, 2) + np.tile(origin, 2)
    if limits is not None:
        if flip:
            boxes[:, [0, 2]] = limits[0] - boxes[:, [2, 0]]
        boxes[:, :4] = np.clip(boxes[:, :4], 0, np.tile(limits, 2))
        boxes = boxes[((boxes[:, 2:4] - boxes[:, :2]) > 1).all(axis=1)]
    data = np.zeros((max_boxes, 5))
    data[: len(boxes[:max_boxes])] = boxes[:max_boxes]
    return data
