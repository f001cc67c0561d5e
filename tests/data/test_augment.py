from functools import cache

import jax
import numpy as np
import pytest

from yolo_jax.data.augment import Augment

CANVAS = (96, 120)
# A white rectangle whose upper left quarter is red, green right of it: its orientation shows.
BOX = (36, 40, 70, 58)


def rectangles(count):
    image = np.zeros((count, *CANVAS, 3), np.uint8)
    x1, y1, x2, y2 = BOX
    image[:, y1:y2, x1:x2] = 255
    boxes = np.zeros((count, 3, 4), np.float32)
    boxes[:, 0] = BOX
    classes = np.full((count, 3), -1, np.int32)
    classes[:, 0] = 5
    return image, boxes, classes


@cache
def compiled(shaped):
    shape, augment = shaped
    return jax.jit(lambda *given: augment(*given, output_shape=shape)[:3])


def apply(augment, seed, image, boxes, classes):
    keys = jax.random.split(jax.random.key(seed), len(image))
    return [np.asarray(part) for part in compiled(augment)(keys, image, boxes, classes)]


def extent(image):
    bright = np.argwhere(image[..., 0] > 0.75)
    return np.array([*bright.min(0)[::-1], *(bright.max(0)[::-1] + 1)], np.float32)


@pytest.mark.parametrize(
    "augment",
    [
        ((96, 120), Augment(flip=0.0)),
        ((64, 64), Augment(flip=1.0)),
        ((80, 80), Augment(crop=(60, 95), aspect_jitter=0.2, quarter_turns=True)),
        ((48, 72), Augment(crop=(80, 140), flip=0.5)),
    ],
    ids=["whole", "flip", "all", "wide"],
)
def test_boxes_follow_pixels(augment):
    image, boxes, classes = apply(augment, 0, *rectangles(24))
    assert image.shape == (24, *augment[0], 3)
    assert image.dtype == np.float32
    assert (classes[:, 1:] == -1).all()
    kept = np.flatnonzero(classes[:, 0] == 5)
    assert len(kept) >= 12
    for index in kept:
        np.testing.assert_allclose(boxes[index, 0], extent(image[index]), atol=1.5)


def test_without_changes_the_image_stays():
    image = np.random.default_rng(0).integers(0, 256, (2, *CANVAS, 3), np.uint8)
    _, boxes, classes = rectangles(2)
    out, out_boxes, _ = apply((CANVAS, Augment(flip=0.0)), 0, image, boxes, classes)
    np.testing.assert_allclose(out, image / 255, atol=1e-4)
    np.testing.assert_allclose(out_boxes, boxes, atol=1e-4)


def test_quarter_turns_are_turns_and_no_mirror_images():
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8).repeat(40, 0)
    boxes = np.tile(np.array([[[2, 3, 10, 7]]], np.float32), (40, 1, 1))
    classes = np.zeros((40, 1), np.int32)
    augment = ((16, 16), Augment(flip=0.0, quarter_turns=True, min_box_px=1))
    out, _, _ = apply(augment, 0, image, boxes, classes)
    turns = [np.rot90(image[0] / 255, k) for k in range(4)]
    seen = {
        k for one in out for k, turned in enumerate(turns) if np.allclose(one, turned, atol=1e-4)
    }
    assert seen == {0, 1, 2, 3}
    assert all(any(np.allclose(one, turned, atol=1e-4) for turned in turns) for one in out)


def test_key_alone_decides():
    augment = (
        (64, 64),
        Augment((60, 90), 0.1, 0.5, True, brightness=0.3, contrast=0.3, saturation=0.4, hue=0.1),
    )
    given = rectangles(6)
    keys = jax.random.split(jax.random.key(3), 6)
    first = compiled(augment)(keys, *given)
    again = compiled(augment)(keys, *given)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    other_mates = compiled(augment)(keys[::-1], *given)
    for one, other in zip(first, other_mates, strict=True):
        np.testing.assert_allclose(one, other[::-1], atol=1e-6)
    assert not np.allclose(first[0][0], first[0][1])


def test_box_of_too_little_area_becomes_padding():
    image, boxes, classes = rectangles(64)
    augment = ((40, 40), Augment(crop=(40, 40), flip=0.0, min_area=0.5))
    _, out, kept = apply(augment, 1, image, boxes, classes)
    strict = kept[:, 0] == 5
    assert 0 < strict.sum() < 64
    assert (out[~strict] == 0).all()
    area = (out[..., 2:] - out[..., :2]).prod(-1)[:, 0]
    full = (BOX[2] - BOX[0]) * (BOX[3] - BOX[1])
    assert (area[strict] >= 0.5 * full - 1e-2).all()
    assert (out >= 0).all()
    assert (out <= 40).all()


def test_narrow_box_becomes_padding():
    image, boxes, classes = rectangles(1)
    boxes[0, 1], classes[0, 1] = (10, 10, 11.5, 60), 2
    _, _, kept = apply((CANVAS, Augment(flip=0.0)), 0, image, boxes, classes)
    assert kept[0].tolist() == [5, -1, -1]


def test_crop_larger_than_the_canvas_shows_grey():
    image, boxes, classes = rectangles(4)
    out, _, _ = apply(((80, 80), Augment(crop=(240, 240), flip=0.0)), 0, image + 60, boxes, classes)
    grey = np.isclose(out, 128 / 255, atol=1e-3).all(-1).mean()
    assert 0.75 < grey < 0.85  # all but 96·120 of 240² px


def test_colours():
    image = np.random.default_rng(0).integers(60, 200, (16, 8, 8, 3), np.uint8)
    boxes, classes = np.zeros((16, 1, 4), np.float32), np.full((16, 1), -1, np.int32)
    plain = image / 255
    out, _, _ = apply(((8, 8), Augment(flip=0.0, brightness=0.2)), 0, image, boxes, classes)
    factor = (out / plain).reshape(16, -1)
    np.testing.assert_allclose(factor, factor[:, :1].repeat(192, 1), rtol=1e-4)
    assert np.abs(factor - 1).max() <= 0.2 + 1e-4
    assert factor[:, 0].std() > 0.05
    luma = np.array([0.299, 0.587, 0.114])
    out, _, _ = apply(((8, 8), Augment(flip=0.0, saturation=0.3)), 0, image, boxes, classes)
    np.testing.assert_allclose(out @ luma, plain @ luma, atol=1e-5)
    assert not np.allclose(out, plain, atol=0.01)
    out, _, _ = apply(((8, 8), Augment(flip=0.0, contrast=0.3)), 0, image, boxes, classes)
    ratio = out.std((1, 2, 3)) / plain.std((1, 2, 3))
    assert ((ratio > 0.69) & (ratio < 1.31)).all()
    assert ratio.std() > 0.05
    out, _, _ = apply(((8, 8), Augment(flip=0.0, hue=0.5, brightness=4)), 0, image, boxes, classes)
    assert (out.min(), out.max()) == (0, 1)


def test_quarter_turns_need_a_square():
    with pytest.raises(ValueError, match=r"square output; found \(64, 96\)"):
        apply(((64, 96), Augment(quarter_turns=True)), 0, *rectangles(1))


def test_a_crop_whose_greatest_side_is_less_than_its_least_is_refused():
    with pytest.raises(ValueError, match=r"crop is \(300, 100\); expected \(least, greatest\)"):
        apply(((64, 64), Augment(crop=(300, 100))), 0, *rectangles(1))
