"""What was found in one image, with the image: to draw, to hand on, to write down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from yolo_jax.core.draw import colour_of, draw_boxes
from yolo_jax.core.extras import module_installed_by

_LEAST_SIDE = 256  # the longer one of a drawing, px


@dataclass(frozen=True)
class Found:
    """What was found in one image, best score first.

    Attributes:
        boxes: xyxy in pixels of the image, from 0.
        scores: 0–1.
        classes: indices into `class_names`.
        class_names: name of each class index.
        pixels: the image, RGB.
        name: of the image, as messages and records call it.
        frame: its number in a video, from 0; None of what is no video.
        rate: frames a second of the video, where it says so.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, "n"]
    classes: Int[np.ndarray, "n"]
    class_names: Sequence[str]
    pixels: UInt8[np.ndarray, "h w 3"]
    name: str = ""
    frame: int | None = None
    rate: float | None = None

    def __len__(self) -> int:
        """Returns the number of objects."""
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """Returns the name of each object's class."""
        return [self.class_names[int(index)] for index in self.classes]

    def plot(self) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the image, RGB, with its objects drawn and labelled.

        One that is too small for labels to be read is enlarged by a whole number.
        """
        labels = [
            f"{name} {score:.2f}" for name, score in zip(self.names, self.scores, strict=True)
        ]
        scale = -(-_LEAST_SIDE // max(self.pixels.shape[:2]))
        pixels = self.pixels.repeat(scale, axis=0).repeat(scale, axis=1)
        return draw_boxes(pixels, scale * self.boxes, [colour_of(i) for i in self.classes], labels)

    def to_supervision(self) -> Any:
        """Returns the library supervision's `Detections`, with names as `data["class_name"]`.

        Raises:
            ValueError: supervision is not installed.
        """
        install = "pip install supervision"
        supervision = module_installed_by(install, "supervision", "to_supervision")
        return supervision.Detections(
            xyxy=np.asarray(self.boxes, np.float32),
            confidence=np.asarray(self.scores, np.float32),
            class_id=np.asarray(self.classes, int),
            data={"class_name": np.asarray(self.names, str)},
        )

    def text(self) -> str:
        """Returns what was found in a line, such as `dog 0.93, car 0.71`."""
        pairs = zip(self.names, self.scores, strict=True)
        return ", ".join(f"{name} {score:.2f}" for name, score in pairs) or "nothing"
