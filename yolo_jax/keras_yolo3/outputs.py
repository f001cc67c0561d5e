"""What becomes of a network's raw predictions: the loss, boxes, detections."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from yolo_jax.core.anchors import anchor_set
from yolo_jax.core.numbers import finite_number, whole_number
from yolo_jax.detection import loss as detection_loss
from yolo_jax.detection.decode import Predictions, decode
from yolo_jax.detection.nms import Suppression, non_max_suppression
from yolo_jax.keras_yolo3.arguments import Anchors, anchor_count, check_pair

# What suppression looks at: more boxes than this never pass a threshold that is of use.
_CANDIDATES = 4096


def yolo_loss(
    args: Sequence[Array],
    anchors: Anchors,
    num_classes: int,
    ignore_thresh: float = 0.5,
    print_loss: bool = False,
) -> Float[Array, ""]:
    """Computes the loss; see `detection.loss.yolo_loss`.

    Args:
        args: `[*outputs, *y_true]`, each coarse to fine.
        anchors: (width, height) in pixels of the input.
        num_classes: C.
        ignore_thresh: IoU from which a prediction without an object is not punished.
        print_loss: print each batch's loss, which waits for the device.

    Raises:
        ValueError: outputs, grids, anchors and classes do not fit each other, or the threshold is
            no IoU.
    """
    whole_number("num_classes", num_classes, 1)
    loss = detection_loss.yolo_loss(args, anchors, num_classes, ignore_thresh)
    if print_loss:
        jax.debug.print("loss: {}", loss)
    return loss


def yolo_head(
    feats: Float[Array, "b gh gw d"],
    anchors: Anchors,
    num_classes: int,
    input_shape: Sequence[int] | Array,
    calc_loss: bool = False,
) -> tuple[Array, Array, Array, Array]:
    """Decodes the raw predictions of one scale.

    Args:
        feats: with d = a*(5+C).
        anchors: (width, height) of the scale's own anchors, px of the input.
        num_classes: C.
        input_shape: (height, width), px.
        calc_loss: return what the loss takes.

    Returns:
        box_xy, box_wh (`[b, gh, gw, a, 2]`, relative to the input), confidence `[…, 1]`, class
        probabilities `[…, C]`; with `calc_loss` the cells' (column, row) `[gh, gw, 1, 2]`, the raw
        predictions `[b, gh, gw, a, 5+C]`, box_xy and box_wh.

    Raises:
        ValueError: the predictions are not of as many anchors and classes, or `input_shape` is no
            pair.
    """
    count = anchor_count(anchors)
    channels = count * (5 + whole_number("num_classes", num_classes, 1))
    if len(feats.shape) != 4 or feats.shape[-1] != channels:
        raise ValueError(
            f"{count} anchors (those of one scale alone: anchors[mask]) and {num_classes} classes "
            f"go with feats of shape (b, rows, columns, {count} * (5 + {num_classes}) = "
            f"{channels}); found {tuple(feats.shape)}"
        )
    check_pair("input_shape", "(height, width)", input_shape)
    sizes = jnp.asarray(anchors, feats.dtype)
    rows, columns = feats.shape[1:3]
    grid = jnp.stack(jnp.meshgrid(jnp.arange(columns), jnp.arange(rows)), axis=-1)[:, :, None]
    grid = grid.astype(feats.dtype)
    feats = feats.reshape(-1, rows, columns, len(sizes), num_classes + 5)
    box_xy = (jax.nn.sigmoid(feats[..., :2]) + grid) / jnp.asarray([columns, rows], feats.dtype)
    box_wh = jnp.exp(feats[..., 2:4]) * sizes / jnp.asarray(input_shape, feats.dtype)[::-1]
    if calc_loss:
        return grid, feats, box_xy, box_wh
    return box_xy, box_wh, jax.nn.sigmoid(feats[..., 4:5]), jax.nn.sigmoid(feats[..., 5:])


def yolo_eval(
    yolo_outputs: Sequence[Float[Array, "b gh gw d"]],
    anchors: Anchors,
    num_classes: int,
    image_shape: Sequence[int] | np.ndarray,
    max_boxes: int = 20,
    score_threshold: float = 0.6,
    iou_threshold: float = 0.5,
) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Turns a network's outputs for a letterboxed image into detections.

    keras-yolo3 returns tensors of a graph that is run later; here the outputs are arrays and so are
    the detections.

    Args:
        yolo_outputs: of one image, coarse to fine; arrays, as `predict` returns them.
        anchors: (width, height) in pixels of the input.
        num_classes: C.
        image_shape: (height, width) of the image before it was letterboxed, px.
        max_boxes: most detections of a class.
        score_threshold: least score.
        iou_threshold: overlap above which the lower score of a class goes.

    Returns:
        Boxes (ymin, xmin, ymax, xmax) in pixels of the image, scores, and classes: class by class,
        best score first. Boxes may reach beyond the image.

    Raises:
        ValueError: outputs and anchors are of no network, or not of `num_classes`, or of several
            images; a threshold lies outside [0, 1]; or `image_shape` is no pair.
    """
    finite_number("score_threshold", score_threshold, 0, 1)
    finite_number("iou_threshold", iou_threshold, 0, 1)
    whole_number("max_boxes", max_boxes, 1)
    check_pair("image_shape", "(height, width)", image_shape)
    image_size = [finite_number("each number of image_shape", side, 1) for side in image_shape]
    used = anchor_set(anchors, len(yolo_outputs))
    heads = [jnp.asarray(output) for output in yolo_outputs]
    if any(head.shape[0] != 1 for head in heads):
        raise ValueError(
            f"yolo_eval takes the outputs for one image; found {[head.shape[0] for head in heads]}"
            " of them: call it on output[i : i + 1] for each"
        )
    decoded = decode(heads, used)
    if decoded.scores.shape[-1] != num_classes:
        raise ValueError(
            f"the outputs are of {decoded.scores.shape[-1]} classes; num_classes is {num_classes}"
        )
    flat = Predictions(decoded.boxes.reshape(1, -1, 4), decoded.scores.reshape(1, -1, num_classes))
    # The threshold itself counts here, but nothing is no score.
    below = max(0.0, float(np.nextafter(np.float32(score_threshold), np.float32(-1))))
    how = Suppression(below, iou_threshold, max_candidates=_CANDIDATES, max_detections=_CANDIDATES)
    found = jax.device_get(non_max_suppression(flat, how))
    boxes, scores, classes = (np.asarray(part[0]) for part in found)
    chosen = np.concatenate(
        [np.flatnonzero(classes == index)[:max_boxes] for index in range(num_classes)]
    )
    input_shape = np.asarray(heads[0].shape[1:3], np.float32) * used.strides[0]
    boxes = _to_image(boxes[chosen], input_shape, np.asarray(image_size, np.float32))
    return boxes, scores[chosen], classes[chosen]


def _to_image(
    boxes: Float[np.ndarray, "n 4"],
    input_shape: Float[np.ndarray, "2"],
    image_shape: Float[np.ndarray, "2"],
) -> Float[np.ndarray, "n 4"]:
    """Maps xyxy in pixels of the input to yxyx in pixels of the letterboxed image.

    The image's size in the input is rounded, as in keras-yolo3's `yolo_correct_boxes`.
    """
    inner = np.round(image_shape * np.min(input_shape / image_shape))
    offset = (input_shape - inner) / 2
    yxyx = boxes[:, [1, 0, 3, 2]]
    return (yxyx - np.tile(offset, 2)) * np.tile(image_shape / inner, 2)
