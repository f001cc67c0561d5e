import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.core.anchors import TINY, YOLOV3, anchor_set
from yolo_jax.core.boxes import box_cxcywh_to_xyxy, box_iou_xyxy
from yolo_jax.detection.ignore import overlaps_any
from yolo_jax.detection.loss import DetectionLoss, dense_terms, yolo_loss
from yolo_jax.detection.targets import dense_targets

CASES = ["tiny_2scale_b3_c5_128x96", "yolov3_3scale_b1_c20_128x128", "yolov3_3scale_b2_c3_96x128"]
SHAPE = (96, 128)
CLASSES = 3


def load(path):
    data = np.load(path)
    names = [i for i in range(3) if f"output_{i}" in data]
    arrays = {kind: [data[f"{kind}_{i}"] for i in names] for kind in ("output", "y_true", "grad")}
    return data, arrays


def assert_same_gradients(found, expected, tolerance=1e-5):
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def compiled_gradient(function, **options):
    """Returns value and gradient in one program: operation by operation they take seconds."""
    return jax.jit(jax.value_and_grad(function, **options))


def compiled_grad(function):
    return jax.jit(jax.grad(function))


def random_heads(anchors, batch, rng, shape=SHAPE):
    grids = anchors.grid_shapes(shape)
    return [
        jnp.asarray(rng.normal(size=(batch, *g, 3 * (5 + CLASSES))), jnp.float32) for g in grids
    ]


def crowded_boxes(anchors, batch, count, rng):
    """Draws boxes of the anchors' own sizes about three points, with padding in between."""
    points = np.array([[30, 30], [90, 60], [128, 96]])
    centre = points[rng.integers(0, 3, (batch, count))] + rng.uniform(-6, 6, (batch, count, 2))
    sizes = np.asarray(anchors.sizes)[rng.integers(0, len(anchors.sizes), (batch, count))]
    sizes = sizes * rng.uniform(0.95, 1.05, sizes.shape)
    kind = rng.uniform(size=(batch, count))
    sizes[kind < 0.1, 0] = 0
    sizes[kind < 0.05, 1] = 0
    boxes = np.concatenate([centre - sizes / 2, centre + sizes / 2], -1).astype(np.float32)
    classes = np.where(kind > 0.75, -1, rng.integers(0, CLASSES, (batch, count)))
    return jnp.asarray(boxes), jnp.asarray(classes)


@pytest.mark.parametrize("depth", [4, 5], ids=["flat heads", "heads by anchor"])
@pytest.mark.parametrize("case", CASES)
def test_dense_loss_is_keras_yolo3s(golden, case, depth):
    data, arrays = load(golden / f"{case}.npz")
    outputs, expected = arrays["output"], arrays["grad"]
    if depth == 5:
        outputs, expected = (
            [a.reshape(*a.shape[:3], 3, -1) for a in group] for group in (outputs, expected)
        )
    found, grads = compiled_gradient(
        lambda heads: yolo_loss(
            [*heads, *arrays["y_true"]],
            data["anchors"],
            int(data["num_classes"]),
            float(data["ignore_thresh"]),
        )
    )(outputs)
    assert found.shape == ()
    np.testing.assert_allclose(found, data["loss"], rtol=1e-5)
    assert_same_gradients(grads, expected)


@pytest.mark.parametrize("case", CASES)
def test_loss_from_boxes_is_keras_yolo3s(golden, case):
    data, arrays = load(golden / f"{case}.npz")
    rows = data["true_boxes"]
    classes = jnp.asarray(np.where(rows[..., 2] > rows[..., 0], rows[..., 4], -1).astype(np.int32))
    loss = DetectionLoss(
        anchor_set(data["anchors"], len(arrays["output"])),
        int(data["num_classes"]),
        float(data["ignore_thresh"]),
        exact_centres=False,
    )
    found, grads = compiled_gradient(
        lambda heads: loss(heads, jnp.asarray(rows[..., :4]), classes).total().mean()
    )([jnp.asarray(a) for a in arrays["output"]])
    np.testing.assert_allclose(found, data["loss"], rtol=1e-5)
    assert_same_gradients(grads, arrays["grad"])


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("anchors", [YOLOV3, TINY], ids=["yolov3", "tiny"])
def test_both_forms_agree_on_crowds(anchors, exact):
    loss = DetectionLoss(anchors, CLASSES, 0.4, exact_centres=exact)

    def padded(heads, boxes, classes):
        terms = loss(heads, boxes, classes)
        return terms.total().mean(), terms

    def dense(heads, boxes, classes):
        grids = dense_targets(boxes, classes, anchors, CLASSES, SHAPE, exact_centres=exact)
        terms = dense_terms(heads, grids, anchors, 0.4)
        return terms.total().mean(), (terms, sum(grid[..., 4].sum() for grid in grids))

    padded, dense = (compiled_gradient(f, has_aux=True) for f in (padded, dense))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        heads = random_heads(anchors, 2, rng)
        boxes, classes = crowded_boxes(anchors, 2, 40, rng)
        (_, terms), grads = padded(heads, boxes, classes)
        (_, (expected, objects)), expected_grads = dense(heads, boxes, classes)
        assert 0 < objects < 50  # of some 55 boxes: cells are shared
        assert terms.named().keys() == expected.named().keys()
        for name, theirs in expected.named().items():
            np.testing.assert_allclose(terms.named()[name], theirs, rtol=1e-5)
        assert_same_gradients(grads, expected_grads)


def test_moving_padding_leaves_the_loss():
    rng = np.random.default_rng(0)
    heads = random_heads(TINY, 1, rng)
    boxes, classes = crowded_boxes(TINY, 1, 20, rng)
    loss = jax.jit(lambda b, c: DetectionLoss(TINY, CLASSES)(heads, b, c).total())
    expected = loss(boxes, classes)
    order = np.argsort(np.asarray(classes[0]) < 0, kind="stable")
    assert not np.array_equal(order, np.arange(20))
    np.testing.assert_allclose(loss(boxes[:, order], classes[:, order]), expected, rtol=1e-6)


@pytest.mark.parametrize("box", [[40, 40, 40, 70], [40, 40, 70, 40], [40, 40, 40, 40]])
def test_a_box_without_area_is_no_box(box):
    heads = random_heads(YOLOV3, 1, np.random.default_rng(1))
    boxes = jnp.asarray([[box, [10, 10, 60, 70]]], jnp.float32)
    run = compiled_gradient(lambda h, c: DetectionLoss(YOLOV3, CLASSES)(h, boxes, c).total().mean())
    found, grads = run(heads, jnp.asarray([[0, 1]]))
    expected, expected_grads = run(heads, jnp.asarray([[-1, 1]]))
    assert np.isfinite(found)
    np.testing.assert_array_equal(found, expected)
    for ours, theirs in zip(grads, expected_grads, strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_array_equal(ours, theirs)


def test_a_users_grid_with_a_flat_box_has_finite_gradients():
    rng = np.random.default_rng(2)
    heads = random_heads(TINY, 1, rng)
    grids = [np.zeros((*h.shape[:3], 3, 5 + CLASSES), np.float32) for h in heads]
    grids[0][0, 1, 1, 0] = [0.4, 0.5, 0, 0.3, 1, 1, 0, 0]
    found, grads = compiled_gradient(lambda h: yolo_loss([*h, *grids], TINY.sizes, CLASSES))(heads)
    assert np.isfinite(found)
    assert all(np.isfinite(grad).all() for grad in grads)


def test_without_objects_every_objectness_is_punished():
    heads = random_heads(TINY, 2, np.random.default_rng(3))
    terms = jax.jit(DetectionLoss(TINY, CLASSES))(heads, jnp.zeros((2, 4, 4)), jnp.full((2, 4), -1))
    logits = [np.asarray(h, np.float64).reshape(2, -1, 5 + CLASSES)[..., 4] for h in heads]
    expected = sum(np.logaddexp(0, values).sum(axis=1) for values in logits)
    np.testing.assert_allclose(terms.objectness, expected, rtol=1e-5)
    for term in (terms.xy, terms.wh, terms.classification):
        np.testing.assert_array_equal(term, 0)


def test_a_box_on_the_far_edge_is_learnt_by_the_last_cell():
    heads = random_heads(TINY, 1, np.random.default_rng(4))
    boxes = jnp.asarray([[[128 - 67.5, 96 - 84.5, 128 + 67.5, 96 + 84.5]]])
    grads = compiled_grad(
        lambda h: DetectionLoss(TINY, CLASSES)(h, boxes, jnp.asarray([[2]])).total().mean()
    )(heads)
    touched = np.abs(np.asarray(grads[0]).reshape(3, 4, 3, -1)[..., :4]).sum(-1) > 0
    assert np.argwhere(touched).tolist() == [[2, 3, 1]]
    assert np.abs(np.asarray(grads[1]).reshape(6, 8, 3, -1)[..., :4]).max() == 0


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_ignore_mask_against_a_loop(threshold):
    rng = np.random.default_rng(5)
    batch, cells, count = 2, 60, 11
    true = np.concatenate(
        [rng.uniform(20, 80, (batch, count, 2)), rng.uniform(20, 70, (batch, count, 2))], -1
    ).astype(np.float32)
    near = true[:, rng.integers(0, count, cells)] + rng.normal(0, 6, (batch, cells, 4))
    predicted = np.maximum(near, 1).astype(np.float32)
    is_true = rng.uniform(size=(batch, count)) > 0.3
    corners, predicted_corners = box_cxcywh_to_xyxy(true), box_cxcywh_to_xyxy(predicted)

    expected = np.zeros((batch, cells), bool)
    clear = np.ones((batch, cells), bool)  # no IoU so near the threshold that rounding decides
    for image in range(batch):
        for cell in range(cells):
            for box in range(count):
                if is_true[image, box]:
                    iou = box_iou_xyxy(predicted_corners[image, cell], corners[image, box])
                    expected[image, cell] |= iou >= threshold
                    clear[image, cell] &= abs(iou - threshold) > 1e-5
    assert 5 < expected.sum() < expected.size - 5
    found = jax.jit(overlaps_any)(predicted, corners, is_true, threshold)
    np.testing.assert_array_equal(np.asarray(found)[clear], expected[clear])


def test_ignored_predictions_are_not_punished():
    """A head that predicts a true box exactly, in a cell that does not own it, is left alone."""
    grids = TINY.grid_shapes(SHAPE)
    heads = [np.zeros((1, *grid, 3, 5 + CLASSES), np.float32) for grid in grids]
    heads[0][0, 1, 1, :, 4] = 3
    # Anchor 1 of the scale (135 × 169) in cell (1, 1) is made to predict the box of anchor 2.
    heads[0][0, 1, 1, 1, 2:4] = np.log([344 / 135, 319 / 169])
    boxes = jnp.asarray([[[48 - 172, 48 - 159.5, 48 + 172, 48 + 159.5]]])

    def objectness_gradient(thresh):
        loss = DetectionLoss(TINY, CLASSES, thresh)
        grads = compiled_grad(lambda h: loss(h, boxes, jnp.asarray([[0]])).total().sum())(
            [jnp.asarray(h) for h in heads]
        )
        return np.asarray(grads[0])[0, 1, 1, :, 4]

    punished = 1 / (1 + np.exp(-3))
    np.testing.assert_allclose(objectness_gradient(0.5), [punished, 0, punished - 1], rtol=1e-5)
    np.testing.assert_allclose(
        objectness_gradient(1.1), [punished, punished, punished - 1], rtol=1e-5
    )


def wrong_heads(change):
    heads = random_heads(TINY, 1, np.random.default_rng(6))
    match change:
        case "classes":
            heads = [h[..., :-3] for h in heads]
        case "grid":
            heads[1] = heads[1][:, :-1]
        case "missing":
            heads = heads[:1]
    return heads


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("classes", r"scale 0: a head for 3 classes should be \(batch, 3, 4, 24\); found"),
        ("grid", r"scale 1: .* should be \(batch, 6, 8, 24\); found \(1, 5, 8, 24\)"),
        ("missing", "found 1 heads for anchors of 2 scales"),
    ],
)
def test_heads_of_a_wrong_shape(change, message):
    with pytest.raises(ValueError, match=message):
        DetectionLoss(TINY, CLASSES)(wrong_heads(change), jnp.zeros((1, 2, 4)), -jnp.ones((1, 2)))


def test_yolo_loss_checks_its_arguments():
    heads = random_heads(TINY, 1, np.random.default_rng(7))
    grids = [jnp.zeros((*h.shape[:3], 3, 5 + CLASSES)) for h in heads]
    with pytest.raises(ValueError, match="found 3 arrays"):
        yolo_loss([*heads, grids[0]], TINY.sizes, CLASSES)
    with pytest.raises(ValueError, match="scale 0: a head for 4 classes"):
        yolo_loss([*heads, *grids], TINY.sizes, CLASSES + 1)
    with pytest.raises(ValueError, match=r"scale 1: .* y_true should be \(1, 6, 8, 3, 8\)"):
        yolo_loss([*heads, grids[0], grids[0]], TINY.sizes, CLASSES)
    with pytest.raises(ValueError, match="found 9"):
        yolo_loss([*heads, *grids], YOLOV3.sizes, CLASSES)
    for threshold in (50, -0.1, float("nan"), "half", True):
        with pytest.raises(ValueError, match="ignore_thresh is a finite number from 0 to 1"):
            yolo_loss([*heads, *grids], TINY.sizes, CLASSES, threshold)
