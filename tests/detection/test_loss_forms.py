"""The loss's other forms, each against its paper's formula in plain NumPy, box by box."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.core.anchors import TINY, YOLOV3
from yolo_jax.core.boxes import box_ciou_xyxy, box_diou_xyxy, box_giou_xyxy, box_iou_xyxy
from yolo_jax.detection.decode import decode_boxes, flat_head
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.detection.targets import match_boxes

SHAPE, CLASSES = (96, 128), 3
# One box an anchor of YOLOv3's: no two in one cell and anchor.
BOXES = np.array(
    [[10, 20, 21, 32], [50, 40, 67, 71], [70, 10, 130, 90], [100, 60, 127, 95], [0, 0, 0, 0]],
    np.float32,
)
OWN = np.array([0, 2, 1, 0, -1], np.int32)


def heads_of(anchors, seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(1, *grid, 3 * (5 + CLASSES))).astype(np.float32)
        for grid in anchors.grid_shapes(SHAPE)
    ]


def terms_of(heads, anchors=YOLOV3, **settings):
    """Returns the terms of one image, whose gradients are finite."""
    loss = DetectionLoss(anchors, CLASSES, **settings)

    def run(heads):
        terms = loss(heads, jnp.asarray(BOXES[None]), jnp.asarray(OWN[None]))
        return terms.total().mean(), terms.named()

    (_, terms), grads = jax.jit(jax.value_and_grad(run, has_aux=True))(heads)
    assert all(np.isfinite(grad).all() for grad in grads)
    return {name: float(term[0]) for name, term in terms.items()}


def pairs_of(heads, anchors=YOLOV3, **options):
    """Yields each matched box, its class, raw row and decoded xyxy box."""
    matches = match_boxes(jnp.asarray(BOXES), jnp.asarray(OWN), anchors, SHAPE, **options)
    for scale, match in enumerate(matches):
        sizes = anchors.scale_sizes(scale)
        raw = flat_head(jnp.asarray(heads[scale]), len(sizes))
        grid = anchors.grid_shapes(SHAPE)[scale]
        decoded = np.asarray(decode_boxes(raw, sizes, grid, anchors.strides[scale]))[0]
        pairs = len(match.cell) // len(BOXES)
        for index in np.flatnonzero(match.owner):
            x, y, w, h = decoded[cell := int(match.cell[index])]
            found = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            yield BOXES[index // pairs], OWN[index // pairs], np.asarray(raw[0, cell]), found


def weight(box):
    return 2 - (box[2] - box[0]) * (box[3] - box[1]) / (SHAPE[0] * SHAPE[1])


def overlap(form, a, b):
    """Returns an overlap of two boxes, in the papers' words."""
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    union = sum(areas) - shared
    iou = shared / union
    c = [max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])]
    if form == "giou":
        return iou - (c[0] * c[1] - union) / (c[0] * c[1])
    centres = [np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]) for box in (a, b)]
    diou = iou - ((centres[0] - centres[1]) ** 2).sum() / (c[0] ** 2 + c[1] ** 2)
    if form == "diou":
        return diou
    ratios = [np.arctan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)]
    v = 4 / np.pi**2 * (ratios[0] - ratios[1]) ** 2
    return diou - v * v / (1 - iou + v)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


OVERLAPS = {"giou": box_giou_xyxy, "diou": box_diou_xyxy, "ciou": box_ciou_xyxy}


@pytest.mark.parametrize("form", OVERLAPS)
@pytest.mark.parametrize("xp", [np, jnp])
def test_overlaps_of_boxes(form, xp):
    lower, size = (
        np.random.default_rng(seed).uniform(1, 50, (2, 40, 2)).astype(np.float32)
        for seed in range(2)
    )
    first, second = np.concatenate([lower, lower + size], axis=-1)
    found = OVERLAPS[form](xp.asarray(first), xp.asarray(second))
    assert isinstance(found, np.ndarray) == (xp is np)
    expected = [overlap(form, a, b) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert min(expected) < 0 < max(expected)  # some lie apart
    np.testing.assert_allclose(OVERLAPS[form](xp.asarray(first), xp.asarray(first)), 1, rtol=1e-6)


@pytest.mark.parametrize("form", OVERLAPS)
@pytest.mark.parametrize("anchors", [YOLOV3, TINY], ids=["yolov3", "tiny"])
def test_a_box_loses_by_its_overlap(form, anchors):
    heads = heads_of(anchors)
    found = terms_of(heads, anchors, box=form, box_weight=0.5)
    expected = [
        weight(true) * (1 - overlap(form, box, true))
        for true, _, _, box in pairs_of(heads, anchors)
    ]
    assert len(expected) >= 4
    assert found["iou"] == pytest.approx(0.5 * sum(expected), rel=1e-4)
    assert set(found) == {"iou", "objectness", "classification"}
    usual = terms_of(heads, anchors)
    assert {name: found[name] for name in ("objectness", "classification")} == {
        name: usual[name] for name in ("objectness", "classification")
    }


@pytest.mark.parametrize("form", OVERLAPS)
def test_an_overlap_is_learnt(form):
    heads = [jnp.asarray(head) for head in heads_of(YOLOV3)]
    loss = DetectionLoss(YOLOV3, CLASSES, box=form)

    def lost(heads):
        return loss(heads, jnp.asarray(BOXES[None]), jnp.asarray(OWN[None])).iou[0]

    def step(index, heads):
        rate = 0.5 * (1 - index / 1000)
        return jax.tree.map(lambda head, grad: head - rate * grad, heads, jax.grad(lost)(heads))

    heads = jax.jit(lambda heads: jax.lax.fori_loop(0, 1000, step, heads))(heads)
    overlaps = [float(box_iou_xyxy(true, box)) for true, _, _, box in pairs_of(heads)]
    assert min(overlaps) > 0.9


def test_objectness_may_be_the_overlap():
    heads = heads_of(YOLOV3)
    found = terms_of(heads, objectness="iou")
    usual = terms_of(heads)
    # BCE is linear in its target.
    expected = sum((1 - box_iou_xyxy(true, box)) * row[4] for true, _, row, box in pairs_of(heads))
    assert found["objectness"] - usual["objectness"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("form", ["bce", "focal"])
def test_classes_by_focal_loss_and_smoothed(form, smoothing):
    heads = heads_of(YOLOV3)
    found = terms_of(heads, classification=form, label_smoothing=smoothing)
    expected = 0.0
    for _, own, row, _ in pairs_of(heads):
        for index, p in enumerate(sigmoid(row[5:].astype(np.float64))):
            y = (index == own) * (1 - smoothing) + smoothing / 2
            cross_entropy = -y * np.log(p) - (1 - y) * np.log(1 - p)
            factor = (0.25 * y + 0.75 * (1 - y)) * abs(y - p) ** 2 if form == "focal" else 1
            expected += factor * cross_entropy
    assert found["classification"] == pytest.approx(expected, rel=1e-5)


def test_the_ignore_mask_may_look_at_boxes_of_other_scales():
    # Every prediction of the finest scale is the large box, which belongs to the coarsest.
    heads = heads_of(YOLOV3)
    rows, columns = YOLOV3.grid_shapes(SHAPE)[2]
    fine = heads[2].reshape(1, rows, columns, 3, 5 + CLASSES)
    for row in range(rows):
        for column in range(columns):
            for anchor, size in enumerate(YOLOV3.scale_sizes(2)):
                fine[0, row, column, anchor, 2:4] = np.log(np.array([60, 80]) / size)
    both = terms_of(heads, ignore_scope="all")["objectness"]
    own = terms_of(heads)["objectness"]
    decoded = decode_boxes(
        flat_head(jnp.asarray(heads[2]), 3), YOLOV3.scale_sizes(2), (rows, columns), 8
    )
    x, y, w, h = np.moveaxis(np.asarray(decoded)[0], -1, 0)
    boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)
    covers = box_iou_xyxy(boxes[:, None], BOXES[None, :4]) >= 0.5
    # Those of the fine scale that overlap only boxes of other scales, less objects of their own.
    matches = match_boxes(jnp.asarray(BOXES), jnp.asarray(OWN), YOLOV3, SHAPE)
    fine_boxes = np.asarray(matches[2].owner)[:4]
    newly = covers.any(axis=1) & ~covers[:, fine_boxes].any(axis=1)
    newly[np.asarray(matches[2].cell)[np.asarray(matches[2].owner)]] = False
    assert newly.sum() > 10
    spared = np.logaddexp(0, flat_head(jnp.asarray(heads[2]), 3)[0, newly, 4]).sum()
    assert own - both >= 0.99 * spared


def test_a_box_may_be_learnt_by_all_anchors_of_its_size():
    heads = heads_of(YOLOV3)
    usual, more = list(pairs_of(heads)), list(pairs_of(heads, match_iou=0.4))
    assert len(more) > len(usual) == 4
    expected = sum(weight(true) * (1 - overlap("giou", box, true)) for true, _, _, box in more)
    found = terms_of(heads, box="giou", match_iou=0.4)
    assert found["iou"] == pytest.approx(expected, rel=1e-4)
    # Which they are: of those whose size overlaps the box's by more, or its best.
    sizes = np.asarray(YOLOV3.sizes, np.float32)
    for box, own in zip(BOXES[:4], OWN[:4], strict=True):
        width, height = box[2:] - box[:2]
        shared = np.minimum(sizes[:, 0], width) * np.minimum(sizes[:, 1], height)
        ious = shared / (sizes.prod(axis=1) + width * height - shared)
        count = sum((true == box).all() and at == own for true, at, _, _ in more)
        assert count == max(1, (ious > 0.4).sum())
    # Where no other anchor is like enough, it is the usual loss.
    assert terms_of(heads, match_iou=0.999) == pytest.approx(terms_of(heads), rel=1e-6)


def test_terms_are_weighted():
    heads = heads_of(TINY)
    weights = {"box_weight": 2.0, "objectness_weight": 0.5, "classification_weight": 3.0}
    usual, found = terms_of(heads, TINY), terms_of(heads, TINY, **weights)
    factors = {"xy": 2.0, "wh": 2.0, "objectness": 0.5, "classification": 3.0}
    assert found == pytest.approx({name: factors[name] * usual[name] for name in usual}, rel=1e-6)


def test_its_numbers_may_be_arguments_of_a_program():
    heads = heads_of(TINY)
    numbers = {
        "ignore_thresh": 0.4, "label_smoothing": 0.1, "match_iou": 0.3, "box_weight": 2.0,
        "objectness_weight": 0.5, "classification_weight": 3.0,
    }  # fmt: skip

    @jax.jit
    def run(numbers):
        loss = DetectionLoss(TINY, CLASSES, **numbers)
        return loss(heads, jnp.asarray(BOXES[None]), jnp.asarray(OWN[None])).named()

    found = {name: float(term[0]) for name, term in run(numbers).items()}
    assert found == pytest.approx(terms_of(heads, TINY, **numbers), rel=1e-6)
    run({name: number / 2 for name, number in numbers.items()})
    assert run._cache_size() == 1


@pytest.mark.parametrize("name", ["box", "objectness", "classification", "ignore_scope"])
def test_a_form_that_there_is_not(name):
    with pytest.raises(ValueError, match=f"{name} is 'other'; expected one of "):
        DetectionLoss(TINY, CLASSES, **{name: "other"})


@pytest.mark.parametrize("match_iou", [None, 0.2])
def test_a_cell_has_the_classes_of_all_its_boxes(match_iou):
    heads = heads_of(YOLOV3)
    boxes = jnp.tile(jnp.asarray(BOXES[:1]), (4, 1))
    classes = jnp.array([1, -1, 0, 1])

    @jax.grad
    def towards(heads):
        loss = DetectionLoss(YOLOV3, CLASSES, match_iou=match_iou)
        return loss(heads, boxes[None], classes[None]).named()["classification"][0]

    cells = 0
    matches = match_boxes(boxes, classes, YOLOV3, SHAPE, match_iou=match_iou)
    for match, grad, head in zip(matches, towards(heads), heads, strict=True):
        owners = match.cell[match.owner]
        rows, logits = (flat_head(jnp.asarray(a), 3)[0, owners, 5:] for a in (grad, head))
        # The gradient of a cross-entropy is what is said less the bit.
        np.testing.assert_allclose(
            sigmoid(logits) - rows, np.tile([1, 1, 0], (len(rows), 1)), atol=1e-5
        )
        cells += len(rows)
    assert cells == 1 if match_iou is None else cells > 1
