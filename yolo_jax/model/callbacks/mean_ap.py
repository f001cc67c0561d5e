"""`MeanAP`: average precision on a data set, after epochs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, UInt8

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.draw import colour_of, draw_boxes
from yolo_jax.core.types import Detections
from yolo_jax.data.images import load_image
from yolo_jax.data.pipeline import Loader
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Suppression
from yolo_jax.evaluation.average_precision import coco_average_precision
from yolo_jax.model.callbacks.callback import Callback, Logs
from yolo_jax.model.graph import Graph
from yolo_jax.training.distributed import gather_detections


class _Heads(nnx.Module):
    """A model's graph, called with images alone."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __call__(self, images: Array) -> list[Array]:
        return self.graph([images])


class MeanAP(Callback):
    """Detects in a data set's images after epochs and logs `val_AP` and `val_AP50` by COCO's rules.

    Of several processes each detects in its loader's share, and each scores what all found. The
    weights are those that evaluation uses: the moving average where there is one. Callbacks that
    stand behind it in the list see the two keys: `ModelCheckpoint(…, monitor="val_AP50",
    mode="max")`. An epoch without a score has no such key.

    Args:
        loader: of the images and their true boxes; not those that the final figure is of.
        anchors: of the network.
        freq: epochs between scores; the last epoch of `freq` is scored.
        model: whose outputs are the heads, coarse to fine; None: the model that is trained. With a
            loss inside the model, as keras-yolo3 has it, the body that shares its layers.
        score_threshold: detections score more than this.
        iou_threshold: overlap above which the lower score of a class goes.

    Attributes:
        detections: of the last score, by image_id, in pixels of the images.

    Raises:
        ValueError: `freq` is less than 1, or the outputs are not those of the anchors.
    """

    def __init__(
        self,
        loader: Loader,
        anchors: AnchorSet,
        *,
        freq: int = 1,
        model: Any = None,
        score_threshold: float = 0.001,
        iou_threshold: float = 0.45,
    ) -> None:
        if freq < 1:
            raise ValueError(f"MeanAP's freq is a number of epochs, 1 or more; found {freq}")
        self.loader, self.anchors, self.freq, self.body = loader, anchors, freq, model
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.detections: dict[int, Detections] = {}
        self._detector: Detector | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Checks that the model's outputs are heads, before anything is trained for nothing."""
        outputs = (self.body or self.model).outputs
        classes = len(self.loader.dataset.class_names)
        channels = [3 * (5 + classes)] * len(self.anchors.masks)
        found = [output.shape[-1] if len(output.shape) == 4 else None for output in outputs]
        if found != channels:
            raise ValueError(
                f"MeanAP reads {len(channels)} heads (b, rows, columns, {channels[0]}) of the "
                f"model; found outputs of shapes {[output.shape for output in outputs]}: where the "
                "loss is inside the model, give the body as MeanAP(model=…)"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Scores, where it is time."""
        if (epoch + 1) % self.freq:
            return
        with self.model.averaged_layers():
            network = _Heads((self.body or self.model).module())
        if self._detector is None:
            self._detector = Detector(
                network,
                self.anchors,
                self.loader.dataset.class_names,
                self.loader.image_shape,
                suppression=Suppression(self.score_threshold, self.iou_threshold),
            )
        else:
            self._detector.take_weights(network)
        own = self._detector.detect_batches(self.loader.one_pass())
        self.detections = gather_detections(own)
        found = coco_average_precision(self.loader.dataset, self.detections)
        if logs is not None:
            logs |= {"val_AP": found.ap, "val_AP50": found.ap50}

    def pictures(
        self, count: int = 4, threshold: float = 0.3
    ) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
        """Returns the first images with the last score's detections, for `TensorBoard(images=…)`.

        Args:
            count: of the images.
            threshold: least score that is drawn.
        """
        names: Sequence[str] = self.loader.dataset.class_names
        drawn = {}
        for annotation in self.loader.dataset.annotations[:count]:
            found = self.detections.get(annotation.image_id)
            if found is None:
                continue
            sure = np.asarray(found.scores) >= threshold
            boxes, scores, classes = (np.asarray(part)[sure] for part in found)
            drawn[annotation.path.name] = draw_boxes(
                load_image(self.loader.dataset, annotation),
                boxes,
                [colour_of(int(index)) for index in classes],
                [f"{names[i]} {s:.2f}" for i, s in zip(classes, scores, strict=True)],
                width=2,
            )
        return drawn
