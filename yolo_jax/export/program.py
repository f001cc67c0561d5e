"""What every format is written from: one pure function of images, and what is said of it."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import NotRequired, TypedDict

import jax
from flax import nnx
from jax import export
from jaxtyping import UInt8

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.numbers import whole_number
from yolo_jax.core.precision import Precision
from yolo_jax.core.types import Array, Detections
from yolo_jax.detection.decode import Predictions, decode
from yolo_jax.detection.nms import Suppression, non_max_suppression
from yolo_jax.networks.blocks import fold_batch_norm
from yolo_jax.networks.cfg.network import CfgNetwork
from yolo_jax.networks.convolution import plain_operations
from yolo_jax.networks.yolov3 import Network, YOLOv3

FORMAT_VERSION = 1
INPUT = "images"
_LETTERBOX = (
    "An image of h by w px is resized, bilinearly, to int(w*s) by int(h*s) px with "
    "s = min(width/w, height/h), and lies in the middle (offsets rounded down) of an input of grey "
    "128. A box of the original is (box - offset)/s."
)
_BOXES = "x1, y1, x2, y2 in pixels of the input, float32"


class Metadata(TypedDict):
    """What goes with an exported model.

    Attributes:
        format_version: of this record.
        class_names: name of each class index.
        input_name: of the one input, uint8 RGB `[batch, height, width, 3]`.
        height: of the input, px.
        width: of the input, px.
        batch: images at once; −1 is any number.
        letterbox: how an image becomes an input, in words.
        outputs: by name, in order, what each is and its unit.
        score_threshold: of the suppression inside; lacks where there is none, as do the next two.
        iou_threshold: of the suppression inside.
        max_detections: of the suppression inside.
        versions: of jax and yolo_jax.
    """

    format_version: int
    class_names: list[str]
    input_name: str
    height: int
    width: int
    batch: int
    letterbox: str
    outputs: dict[str, str]
    score_threshold: NotRequired[float]
    iou_threshold: NotRequired[float]
    max_detections: NotRequired[int]
    versions: dict[str, str]


class Program:
    """From letterboxed images to boxes: the function that is exported.

    Its network is a copy in evaluation and float32, on whatever machine it is made, with BatchNorm
    folded into the kernels; convolutions are XLA's own operation.

    Args:
        network: that was trained; left as it is.
        anchors: of the network.
        class_names: name of each class index.
        input_shape: (height, width) of the input, px.
        suppression: what is done with boxes that overlap: greedy within each class, which every
            format has; None returns all boxes.
        batch: images at once; None: any number.

    Raises:
        ValueError: the batch is no whole number above 0, or the suppression is of another kind.
    """

    def __init__(
        self,
        network: Network | CfgNetwork,
        anchors: AnchorSet,
        class_names: Sequence[str],
        input_shape: tuple[int, int],
        *,
        suppression: Suppression | None = None,
        batch: int | None = None,
    ) -> None:
        if suppression and (suppression.kind != "greedy" or suppression.class_agnostic):
            raise ValueError(
                "exported models suppress greedily within each class; for another kind export "
                "without suppression, and suppress behind the model"
            )
        self.batch = None if batch is None else whole_number("the batch", batch, 1)
        self.input_shape, self.suppression = input_shape, suppression
        self._anchors, self._class_names = anchors, list(class_names)
        folded = fold_batch_norm(network)
        folded.precision = Precision()
        if isinstance(folded, YOLOv3):
            folded.body.halves = False  # which would ask for the batch's size
        self._graphdef, self._state = nnx.split(folded)

    def predict(self, images: UInt8[jax.Array, "b h w 3"]) -> Predictions:
        """Returns all boxes with their scores, not suppressed."""
        with plain_operations():
            heads = nnx.merge(self._graphdef, self._state, copy=True)(images)
        return decode(heads, self._anchors)

    def __call__(self, images: UInt8[jax.Array, "b h w 3"]) -> tuple[Array, ...]:
        """Returns boxes and scores, or with suppression those that are left, and their classes."""
        found = self.predict(images)
        if self.suppression is not None:
            found = non_max_suppression(found, self.suppression)
        return tuple(found)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Returns the outputs' names, in order."""
        return (Predictions if self.suppression is None else Detections)._fields

    def input_spec(self) -> jax.ShapeDtypeStruct:
        """Returns shape and dtype of the input; a batch of any size is the symbol `b`."""
        rows = export.symbolic_shape("b")[0] if self.batch is None else self.batch
        return jax.ShapeDtypeStruct((rows, *self.input_shape, 3), "uint8")

    def metadata(self) -> Metadata:
        """Returns what goes with the exported model."""
        height, width = self.input_shape
        said: Metadata = {
            "format_version": FORMAT_VERSION,
            "class_names": self._class_names,
            "input_name": INPUT,
            "height": height,
            "width": width,
            "batch": -1 if self.batch is None else self.batch,
            "letterbox": _LETTERBOX,
            "outputs": {"boxes": _BOXES, "scores": "of each class, 0 to 1, float32"},
            "versions": {name: version(name) for name in ("jax", "yolo_jax")},
        }
        if (how := self.suppression) is not None:
            said["outputs"] = {
                "boxes": f"{_BOXES}, best score first; rows of 0 fill up",
                "scores": "0 to 1, float32; 0 fills up",
                "classes": "index of the class name, int32; -1 fills up",
            }
            said["score_threshold"] = float(how.score_threshold)
            said["iou_threshold"] = float(how.iou_threshold)
            said["max_detections"] = how.max_detections
        return said
