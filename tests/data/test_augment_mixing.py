from functools import cache, partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_jax.data.augment import ALONE, COPY, IMAGES, MIXUP, MOSAIC, Augment, drawing, transform
from yolo_jax.data.augment.resample import resample_by_products

CANVAS, OUTPUT, BATCH = (96, 120), (80, 80), 4
# Of the object of each image of a group; black lies around it, and grey beyond the canvas.
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
ALL_BOXES = {"min_box_px": 1.0, "min_area": 0.0}


@cache
def compiled(augment, shape=OUTPUT):
    return jax.jit(partial(augment, output_shape=shape))


def apply(augment, seed, image, boxes, classes, mix=None):
    keys = jax.random.split(jax.random.key(seed), len(image))
    if mix is not None:
        mix = np.full(len(image), mix, np.int32)
    return jax.device_get(compiled(augment)(keys, image, boxes, classes, mix))


def rectangles(boxes):
    """A batch of groups whose images have a filled box each, image k of class k."""
    k = len(boxes)
    image = np.zeros((BATCH, k, *CANVAS, 3), np.uint8)
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        image[:, index, y1:y2, x1:x2] = COLOURS[index]
    placed = np.tile(np.float32(boxes)[None, :, None], (BATCH, 1, 1, 1))
    return image, placed, np.tile(np.arange(k, dtype=np.int32)[None, :, None], (BATCH, 1, 1))


def noise(k, boxes=3, seed=0):
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 70, (BATCH, k, boxes, 2))
    high = low + generator.uniform(5, 25, low.shape)
    return (
        generator.integers(0, 256, (BATCH, k, *CANVAS, 3), np.uint8),
        np.concatenate([low, high], -1).astype(np.float32),
        generator.integers(0, 9, (BATCH, k, boxes)).astype(np.int32),
    )


def extent(shown):
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    if not len(rows):
        return np.zeros(4)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def seen(image, colour):
    """How much of a pixel is of a colour: 0 for black, for grey and for the other colours."""
    on = colour > 0
    return image[..., on].min(-1) - image[..., ~on].max(-1)


CASES = {
    "crop": (Augment(crop=(60, 95), aspect_jitter=0.2, quarter_turns=True, **ALL_BOXES), ALONE),
    "scale": (Augment(scale=(0.4, 2), aspect_jitter=0.3, **ALL_BOXES), ALONE),
    "mosaic": (Augment(mosaic=1, **ALL_BOXES), MOSAIC),
    "mosaic, all": (
        Augment(scale=(0.4, 2), aspect_jitter=0.3, quarter_turns=True, mosaic=1, **ALL_BOXES),
        MOSAIC,
    ),
    "mixup": (Augment(crop=(60, 90), quarter_turns=True, mixup=1, **ALL_BOXES), MIXUP),
}


@st.composite
def canvas_boxes(draw, count):
    boxes = []
    for _ in range(count):
        x, y = draw(st.integers(0, CANVAS[1] - 8)), draw(st.integers(0, CANVAS[0] - 8))
        boxes.append(
            (x, y, draw(st.integers(x + 8, CANVAS[1])), draw(st.integers(y + 8, CANVAS[0])))
        )
    return boxes


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from(sorted(CASES)), st.integers(0, 2**31))
def test_boxes_are_where_their_pixels_are(data, case, seed):
    augment, mix = CASES[case]
    groups = rectangles(data.draw(canvas_boxes(augment.group)))
    if augment.group == 1:
        found = apply(augment, seed, *(part[:, 0] for part in groups))
    else:
        found = apply(augment, seed, *groups, mix)
    for image, boxes, classes in zip(found.image, found.boxes, found.classes, strict=True):
        for index in range(augment.group):
            # Halfway up the slope between the colours is an object's edge, also of blended ones.
            alpha = image[..., index] if mix == MIXUP else seen(image, COLOURS[index])
            pixels = extent(alpha > (0.25 if mix == MIXUP else 0.5))
            if classes[index] == index:
                np.testing.assert_allclose(boxes[index], pixels, atol=1)
            else:
                assert classes[index] == -1
                assert (boxes[index] == 0).all()
                assert (pixels[2:] - pixels[:2]).min() <= 1.5


@pytest.mark.parametrize("kind", [{"mosaic": 1.0}, {"mixup": 1.0}, {"copy": 1.0}], ids=str)
def test_an_image_alone_is_as_if_there_were_no_group(kind):
    options = {"scale": (0.5, 1.5), "aspect_jitter": 0.3, "hsv": (0.1, 1.5, 1.5)}
    augment = Augment(**options, **kind, quarter_turns=True)
    image, boxes, classes = noise(augment.group)
    found = apply(augment, 3, image, boxes, classes, ALONE)
    alone = apply(
        Augment(**options, quarter_turns=True), 3, image[:, 0], boxes[:, 0], classes[:, 0]
    )
    np.testing.assert_allclose(found.image, alone.image, atol=3e-4)
    np.testing.assert_allclose(found.boxes[:, :3], alone.boxes, atol=1e-4)
    np.testing.assert_array_equal(found.classes[:, :3], alone.classes)
    assert (found.classes[:, 3:] == -1).all()


def test_the_key_alone_decides_whoever_else_is_in_the_batch():
    augment = Augment(
        crop=(60, 90), mosaic=0.4, mixup=0.3, copy=0.3, hsv=(0.1, 1.5, 1.5), quarter_turns=True
    )
    groups = noise(4)
    keys = jax.random.split(jax.random.key(5), BATCH)
    mix = np.array([ALONE, MOSAIC, MIXUP, COPY], np.int32)
    found = compiled(augment)(keys, *groups, mix)
    other = compiled(augment)(keys[::-1], *(part[::-1] for part in groups), mix[::-1])
    for one, two in zip(found[:3], other[:3], strict=True):
        np.testing.assert_allclose(one, two[::-1], atol=1e-6)
    assert found.boxes.shape == (BATCH, 12, 4)


def test_accelerators_draw_the_same(monkeypatch):
    augment = Augment(crop=(60, 140), mosaic=0.4, mixup=0.3, copy=0.3)
    keys = jax.random.split(jax.random.key(5), BATCH)
    mix = np.array([ALONE, MOSAIC, MIXUP, COPY], np.int32)
    found = compiled(augment)(keys, *noise(4), mix)
    # A TPU draws a batch at once, by products of matrices.
    monkeypatch.setattr(transform, "each_alone", lambda show, *batch: jax.vmap(show)(*batch))
    monkeypatch.setattr(drawing, "resample", resample_by_products)
    other = jax.jit(partial(augment, output_shape=OUTPUT))(keys, *noise(4), mix)
    for one, two in zip(found[:3], other[:3], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_a_mosaic_shows_four_images_around_a_point_and_no_grey():
    image = np.broadcast_to(COLOURS[:, None, None], (BATCH, 4, *CANVAS, 3))
    boxes, classes = np.zeros((BATCH, 4, 1, 4), np.float32), np.full((BATCH, 4, 1), -1, np.int32)
    augment = Augment(scale=(0.25, 2), aspect_jitter=0.3, mosaic=1)
    centres = []
    for seed in range(10):
        for one in apply(augment, seed, image, boxes, classes, MOSAIC).image:
            shown = np.array([seen(one, colour) > 0.99 for colour in COLOURS])
            assert (shown.sum(0) == 1).all()
            centre = extent(shown[0])[2:]
            np.testing.assert_array_equal(extent(shown[0]), [0, 0, *centre])
            np.testing.assert_array_equal(extent(shown[1]), [centre[0], 0, 80, centre[1]])
            np.testing.assert_array_equal(extent(shown[2]), [0, centre[1], centre[0], 80])
            np.testing.assert_array_equal(extent(shown[3]), [*centre, 80, 80])
            centres.append(centre)
    assert np.min(centres) >= 16
    assert np.max(centres) <= 64
    assert np.std(centres, axis=0).min() > 8


def test_mixup_blends_the_whole_images_about_equally():
    _, boxes, classes = noise(2)
    image = np.zeros((BATCH, 2, *CANVAS, 3), np.uint8)
    image[:, 0] = 255
    ratios = []
    for seed in range(10):
        found = apply(Augment(mixup=1), seed, image, boxes, classes, MIXUP)
        assert (np.ptp(found.image, axis=(1, 2, 3)) < 1e-6).all()
        ratios += found.image[:, 0, 0, 0].tolist()
        assert sorted(found.classes[0]) == sorted(classes[0].reshape(-1))
    assert 0.45 < np.mean(ratios) < 0.55
    assert 0.03 < np.std(ratios) < 0.1


def test_small_objects_are_copied_to_where_no_box_is():
    image = np.zeros((BATCH, 2, *OUTPUT, 3), np.uint8)
    image[:, 1] = np.random.default_rng(0).integers(100, 256, image[:, 1].shape, np.uint8)
    boxes = np.zeros((BATCH, 2, 4, 4), np.float32)
    boxes[:, 0, 0] = 10, 10, 40, 40
    # Free; on the image's own box; free but large; free, though its last pixel lies beside one.
    boxes[:, 1] = [(50.5, 60, 60, 70), (35, 35, 45, 45), (0, 45, 50, 80), (40.2, 12, 45, 20)]
    classes = np.full((BATCH, 2, 4), 3, np.int32)
    classes[:, 0, 1:] = -1
    found = apply(Augment(flip=0, copy=1, copy_px=20), 0, image, boxes, classes, COPY)
    assert found.classes[0].tolist() == [3, -1, -1, -1, 3, -1, -1, 3]
    np.testing.assert_allclose(found.boxes[0, [0, 4, 7]], [*boxes[0, 0, :1], *boxes[0, 1, [0, 3]]])
    expected = np.zeros((*OUTPUT, 3))
    for rows, columns in ((slice(60, 70), slice(50, 60)), (slice(12, 20), slice(40, 45))):
        expected[rows, columns] = image[0, 1, rows, columns] / 255
    np.testing.assert_allclose(found.image[0], expected, atol=1e-5)
    unmixed = apply(Augment(flip=0, copy=1, copy_px=20), 0, image, boxes, classes, ALONE)
    assert (unmixed.image == 0).all()


def test_boxes_beyond_the_greatest_number_are_counted():
    augment = Augment(flip=0, mixup=1, min_box_px=0, min_area=0, max_boxes=4)
    groups = noise(2)
    groups[2][0, 0, 0] = -1
    groups[2][1, :, 1:] = -1
    mixed = apply(augment, 0, *groups, MIXUP)
    assert mixed.boxes.shape == (BATCH, 4, 4)
    assert mixed.excess.tolist() == [1, 0, 2, 2]
    assert mixed.classes[0].tolist() == [*groups[2][0, 0, 1:], *groups[2][0, 1, :2]]
    assert mixed.classes[1].tolist() == [groups[2][1, 0, 0], groups[2][1, 1, 0], -1, -1]
    assert apply(augment, 0, *groups, ALONE).excess.tolist() == [0] * BATCH
    assert apply(Augment(mixup=1), 0, *groups, MIXUP).excess is None  # all have a row


def test_what_becomes_of_an_example_follows_the_probabilities():
    augment = Augment(mosaic=0.5, mixup=0.2, copy=0.1)
    draws = (np.arange(1000) + 0.5) / 1000
    counts = np.bincount([augment.choose_mix(draw) for draw in draws])
    assert [counts[mix] for mix in (ALONE, MOSAIC, MIXUP, COPY)] == [200, 500, 200, 100]
    assert Augment().choose_mix(0.0) == ALONE
    groups = [Augment(), Augment(copy=0.1), Augment(mixup=0.1), augment]
    assert [one.group for one in groups] == [1, 2, 2, 4]
    assert [IMAGES[mix] for mix in (ALONE, MOSAIC, MIXUP, COPY)] == [1, 4, 2, 2]


def test_groups_that_do_not_fit_are_refused():
    image, boxes, classes = noise(2)
    with pytest.raises(ValueError, match=r"groups of 4 images.*\(4, 2, 96, 120, 3\) and a mix"):
        apply(Augment(mosaic=1), 0, image, boxes, classes, MIXUP)
    with pytest.raises(ValueError, match="and no mix"):
        apply(Augment(mixup=1), 0, image, boxes, classes)
    with pytest.raises(ValueError, match=r"add up to 1\.2; expected 1 at most"):
        apply(Augment(mosaic=0.7, copy=0.5), 0, *noise(4), MOSAIC)
