"""Boxes and labels drawn on images."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Place = tuple[float, float, float, float]  # xyxy, px

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
    font = _font(max(10, max(canvas.size) / 45))
    for index, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, float)):
        draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colours[index], width=width)
    placed: list[Place] = []
    for text, box in zip(labels or (), np.asarray(boxes, float), strict=labels is not None):
        _, _, right, bottom = draw.textbbox((0, 0), text, font=font)
        placed.append(_label_place(tuple(box), (right + 5, bottom + 5), canvas.size, placed))
    # The first, which are the surest, on top of those that find no place beside them.
    for (left, top, right, bottom), text, colour in reversed(
        list(zip(placed, labels or (), colours, strict=False))
    ):
        # A filled rectangle includes its last row and column.
        draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        draw.text((left + 2, top + 1), text, fill=_ink(colour), font=font)
    return np.asarray(canvas)


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    """Returns DejaVu Sans, which comes with Matplotlib; Pillow's own font has ASCII alone."""
    spec = find_spec("matplotlib")  # which is not imported for this: it takes half a second
    assert spec is not None
    assert spec.origin is not None
    fonts = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(fonts / "DejaVuSans.ttf", size)


def _ink(colour: Colour) -> str:
    """Returns the colour of text: white, or black where white has a contrast below 3.

    Source: WCAG 2.1, success criterion 1.4.3, and its relative luminance.
    """
    parts = np.asarray(colour) / 255
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return "black" if 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) < 3 else "white"


def _label_place(
    box: Place, size: tuple[float, float], canvas: tuple[int, int], placed: Sequence[Place]
) -> Place:
    """Returns where a label of (width, height) goes: by its box, and on no other if it can be.

    Above the box's left or right end, within it, or below; always inside the canvas. Where each of
    these lies on another label it is the first that fits the canvas.
    """
    x1, y1, x2, y2 = box
    width, height = size
    # Above first; a box at the upper edge has no room there.
    rows = [y1 - height + 1] if y1 >= height else []
    rows += [y1, y2 - height, y2]
    found = []
    for top in rows:
        for left in (x1, x2 - width):
            left = min(max(left, 0), max(canvas[0] - width, 0))
            top = min(max(top, 0), max(canvas[1] - height, 0))
            place = (left, top, left + width, top + height)
            if not any(_share(place, other) for other in placed):
                return place
            found.append(place)
    return found[0]


def _share(first: Place, second: Place) -> bool:
    """Tells whether two rectangles share more than an edge."""
    across = min(first[2], second[2]) > max(first[0], second[0])
    return across and min(first[3], second[3]) > max(first[1], second[1])


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
