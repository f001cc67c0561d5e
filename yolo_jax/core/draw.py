"""Boxes and labels drawn on images."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# Tol's bright palette, told apart by colour-blind readers too.
_PALETTE: tuple[Colour, ...] = (
    (238, 102, 119), (68, 119, 170), (34, 136, 51), (204, 187, 68), (102, 204, 238), (170, 51, 119),
    (238, 119, 51), (0, 153, 136),
)  # fmt: skip


def colour_of(index: int) -> Colour:
    """Returns the colour of a class."""
    return _PALETTE[index % len(_PALETTE)]


def draw_boxes(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Float[np.ndarray, "n 4"],
    colours: Sequence[Colour],
    labels: Sequence[str] | None = None,
    *,
    width: int | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a copy of an image with boxes on it; lines and text grow with the image.

    Args:
        image: RGB.
        boxes: xyxy, px.
        colours: one for each box.
        labels: one for each box, kept inside the image; None for none.
        width: of the lines, px; None: 1/300 of the longer side.
    """
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    width = width or max(1, round(max(canvas.size) / 300))
    font = ImageFont.load_default(size=max(10, max(canvas.size) / 45))
    for index, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, float)):
        draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colours[index], width=width)
    for index, (x1, y1, _, _) in enumerate(np.asarray(boxes, float)):
        if labels is None:
            break
        _, _, right, bottom = draw.textbbox((0, 0), labels[index], font=font)
        # A filled rectangle includes its last row and column: the label is one px larger.
        left = min(max(x1, 0), max(canvas.width - right - 5, 0))
        top = y1 - bottom - 4 if y1 > bottom + 4 else max(y1, 0)
        top = min(top, max(canvas.height - bottom - 5, 0))
        draw.rectangle((left, top, left + right + 4, top + bottom + 4), fill=colours[index])
        draw.text((left + 2, top + 1), labels[index], fill="white", font=font)
    return np.asarray(canvas)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "h w 3"]], columns: int
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Lays images out in rows of `columns`, each in a cell of the largest one's size."""
    gap = 6
    height = max(image.shape[0] for image in images) + gap
    width = max(image.shape[1] for image in images) + gap
    rows = -(-len(images) // columns)
    sheet = np.full((rows * height + gap, columns * width + gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = gap + index // columns * height, gap + index % columns * width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet
