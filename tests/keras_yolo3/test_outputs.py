"""Raw predictions to the loss, to boxes and to detections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.core.anchors import TINY, YOLOV3
from yolo_jax.core.boxes import box_iou_xyxy
from yolo_jax.detection.decode import decode
from yolo_jax.keras_yolo3 import box_iou, yolo_eval, yolo_head, yolo_loss


@pytest.fixture
def case(golden):
    return dict(np.load(golden / "tiny_2scale_b3_c5_128x96.npz"))


def test_loss_is_keras_yolo3s(case, capfd):
    args = [*(case[f"output_{i}"] for i in range(2)), *(case[f"y_true_{i}"] for i in range(2))]
    found = jax.jit(
        lambda args: yolo_loss(args, case["anchors"], 5, float(case["ignore_thresh"]), True)
    )(args)
    assert float(found) == pytest.approx(float(case["loss"]), rel=1e-5)
    jax.effects_barrier()
    assert f"loss: {float(found):.3f}" in capfd.readouterr().out


def test_head_says_what_decoding_says(case):
    shape = tuple(int(side) for side in case["input_shape"])
    decoded = decode([jnp.asarray(case[f"output_{i}"]) for i in range(2)], TINY)
    start = 0
    for scale in range(2):
        sizes = TINY.scale_sizes(scale)
        output = jnp.asarray(case[f"output_{scale}"])
        xy, wh, confidence, classes = yolo_head(output, sizes, 5, shape)
        count = xy.shape[1] * xy.shape[2] * 3
        size = np.array([shape[1], shape[0]])
        boxes = np.concatenate([xy - wh / 2, xy + wh / 2], -1) * np.tile(size, 2)
        part = slice(start, start + count)
        np.testing.assert_allclose(
            boxes.reshape(len(output), -1, 4), decoded.boxes[:, part], rtol=1e-4, atol=1e-3
        )
        np.testing.assert_allclose(
            (confidence * classes).reshape(len(output), -1, 5), decoded.scores[:, part], rtol=1e-5
        )
        grid, feats, again, _ = yolo_head(output, sizes, 5, jnp.asarray(shape), calc_loss=True)
        assert grid.shape == (*xy.shape[1:3], 1, 2)
        assert feats.shape == (*xy.shape[:4], 10)
        np.testing.assert_allclose(grid[1, 2, 0], [2, 1])
        np.testing.assert_allclose(again, xy, rtol=1e-6)
        start += count


def raw_outputs(objects, classes=3, side=96):
    """Makes outputs of YOLOv3 that say the objects: (xyxy px, class, score) of a 96 px input."""
    outputs = [
        np.full((1, side // s, side // s, 3, 5 + classes), -20.0, np.float32)
        for s in YOLOV3.strides
    ]
    for (x1, y1, x2, y2), index, score in objects:
        stride, sizes = YOLOV3.strides[2], YOLOV3.scale_sizes(2)
        centre, size = np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1])
        column, row = (centre // stride).astype(int)
        anchor = int(np.abs(outputs[2][0, row, column, :, 4] + 20).argmin())
        cell = outputs[2][0, row, column, anchor]
        offset = np.clip(centre / stride - (column, row), 1e-3, 1 - 1e-3)
        cell[:2] = np.log(offset / (1 - offset))
        cell[2:4] = np.log(size / sizes[anchor])
        cell[4], cell[5 + index] = np.log(score / (1 - score)), 30
    return [output.reshape(*output.shape[:3], -1) for output in outputs]


def test_eval_gives_detections_class_by_class_in_the_images_pixels():
    # An image of 48×192 px lies in rows 36 to 60 of the input, at half its size.
    objects = [
        ((10, 40, 30, 50), 2, 0.9),
        ((11, 40, 31, 50), 2, 0.8),  # suppressed by the one before
        ((50, 40, 70, 55), 2, 0.7),
        ((50, 41, 70, 56), 0, 0.65),  # another class: stays
        ((80, 42, 90, 50), 0, 0.5),
        ((80, 54, 90, 59), 1, 0.3),  # below the threshold
    ]
    boxes, scores, classes = yolo_eval(
        raw_outputs(objects), np.array(YOLOV3.sizes), 3, (48, 192), score_threshold=0.5
    )
    assert classes.tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(scores, [0.65, 0.5, 0.9, 0.7], atol=1e-5)
    expected = [[(y1 - 36) * 2, x1 * 2, (y2 - 36) * 2, x2 * 2]
                for (x1, y1, x2, y2), _, _ in (objects[i] for i in (3, 4, 0, 2))]  # fmt: skip
    np.testing.assert_allclose(boxes, expected, atol=0.3)
    _, scores, classes = yolo_eval(
        raw_outputs(objects), np.array(YOLOV3.sizes), 3, (48, 192), 1, 0.5, 1.0
    )
    assert classes.tolist() == [0, 2]
    np.testing.assert_allclose(scores, [0.65, 0.9], atol=1e-5)


def test_eval_refuses_other_classes():
    with pytest.raises(ValueError, match="of 3 classes; num_classes is 4"):
        yolo_eval(raw_outputs([]), np.array(YOLOV3.sizes), 4, (96, 96))
    boxes, scores, classes = yolo_eval(raw_outputs([]), np.array(YOLOV3.sizes), 3, (96, 96))
    assert (boxes.shape, scores.shape, classes.shape) == ((0, 4), (0,), (0,))


def test_box_iou_of_every_pair():
    generator = np.random.default_rng(0)
    first = np.concatenate([generator.random((2, 3, 2)), generator.random((2, 3, 2))], -1)
    second = np.concatenate([generator.random((5, 2)), generator.random((5, 2))], -1)
    found = box_iou(first, second)
    assert found.shape == (2, 3, 5)
    corners = [np.concatenate([b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2], -1)
               for b in (first, second)]  # fmt: skip
    for i, j, k in np.ndindex(2, 3, 5):
        assert found[i, j, k] == pytest.approx(box_iou_xyxy(corners[0][i, j], corners[1][k]))
    assert isinstance(box_iou(jnp.asarray(first), jnp.asarray(second)), jax.Array)
