from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image

from yolo_jax.core.fields import check_fields
from yolo_jax.data.augment import Augment, MultiScale, step_side
from yolo_jax.data.augment.colour import change_hsv
from yolo_jax.data.augment.resample import resample, resample_by_gathers, resample_by_products


def positions(seed, size):
    """Ordinary ones, both ways, and those about the edges of an axis of 20 px."""
    generator = np.random.default_rng(seed)
    edges = [-3, -0.6, -0.5, -0.2, 0, 18.9, 19, 19.3, 19.5, 19.6, 25]
    return jnp.asarray([*edges, *generator.uniform(-2, 21, size)], jnp.float32)


def test_products_and_gathers_give_the_same():
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8))
    rows, columns = positions(1, 30), positions(2, 40)
    gathered = jax.jit(resample_by_gathers)(image, rows, columns)
    product = jax.jit(resample_by_products)(image, rows, columns)
    assert gathered.shape == (41, 51, 3)
    np.testing.assert_allclose(gathered, product, atol=1e-3)
    assert (np.asarray(gathered)[0] == 128).all()
    assert (np.asarray(gathered)[:, 10] == 128).all()


def test_enlarged_it_is_as_pillow_makes_it():
    """But for its edges, beyond which Pillow has no pixels; Pillow rounds between the axes.

    It clips there too, so the values leave room to overshoot.
    """
    image = np.random.default_rng(0).integers(64, 192, (20, 30, 3), np.uint8)
    rows, columns = ((jnp.arange(size * 8 / 5) + 0.5) * 5 / 8 - 0.5 for size in (20, 30))
    found = np.asarray(resample(jnp.asarray(image), rows, columns))
    expected = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(found[4:-4, 4:-4], expected[4:-4, 4:-4], atol=1.5)


@pytest.mark.parametrize(("platform", "products"), [("cpu", False), ("tpu", True), ("cuda", False)])
def test_a_tpu_multiplies_and_others_gather(platform, products):
    arguments = jnp.zeros((20, 20, 3), jnp.uint8), jnp.zeros(8), jnp.zeros(8)
    text = jax.jit(resample).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    assert ("dot_general" in text) is products
    assert ("gather" in text) is not products


def test_hsv_is_changed_by_keras_yolo3s_rule():
    generator = np.random.default_rng(0)
    image = generator.random((64, 9, 9, 3)).astype(np.float32)
    image[:, 0, 0] = 0.4, 0.2, 0.2  # hue 0, saturation a half, value 0.4: the draws show in it
    image[:, 1] = generator.choice([0, 0.5, 1], (64, 9, 3))  # greys, black, and equal channels
    limits = (0.1, 1.5, 2.0)
    keys = jax.random.split(jax.random.key(0), 64)
    changed = np.asarray(jax.jit(jax.vmap(partial(change_hsv, limits=limits)))(keys, image))
    draws = rgb_to_hsv(changed[:, 0, 0]) / (1, 0.5, 0.4)
    hsv = rgb_to_hsv(image)
    hsv[..., 0] = (hsv[..., 0] + draws[:, 0, None, None]) % 1.0
    hsv[..., 1:] = np.clip(hsv[..., 1:] * draws[:, None, None, 1:], 0, 1)
    np.testing.assert_allclose(changed, hsv_to_rgb(hsv), atol=1e-4)
    shift = (draws[:, 0] + 0.5) % 1 - 0.5
    assert -0.1 <= shift.min() < -0.08
    assert 0.08 < shift.max() <= 0.1
    for factors, most in ((draws[:, 1], 1.5), (draws[:, 2], 2)):
        assert 1 / most - 1e-4 <= factors.min() < 1.1 / most
        assert most / 1.1 < factors.max() <= most + 1e-4
        assert 0.3 < (factors > 1).mean() < 0.7


def whole(count):
    boxes = np.tile(np.float32([[[0, 0, 100, 50]]]), (count, 1, 1))
    return np.full((count, 50, 100, 3), 255, np.uint8), boxes, np.zeros((count, 1), np.int32)


def augmented(augment, batch, shape):
    keys = jax.random.split(jax.random.key(1), len(batch[0]))
    return jax.device_get(jax.jit(partial(augment, output_shape=shape))(keys, *batch))


def test_scale_and_aspect_are_keras_yolo3s():
    # So small that nothing is cut off.
    augment = Augment(scale=(0.25, 0.5), aspect_jitter=0.3, flip=0)
    image, boxes, *_ = augmented(augment, whole(300), (60, 90))
    size = (boxes[:, 0, 2:] - boxes[:, 0, :2]) / (90, 60)
    aspect = size[:, 0] / size[:, 1]
    assert 0.7 / 1.3 <= aspect.min() < 0.65
    assert 1.55 < aspect.max() <= 1.3 / 0.7
    # The side that is longer in pixels is the output's times the scale.
    scale = np.where(aspect * 90 / 60 >= 1, size[:, 0], size[:, 1])
    assert 0.25 <= scale.min() < 0.26
    assert 0.49 < scale.max() <= 0.5
    assert abs(scale.mean() - 0.375) < 0.02
    place = boxes[:, 0, :2] / (90, 60) / (1 - size)
    assert place.min() >= -1e-5
    assert place.max() <= 1 + 1e-5
    assert (np.abs(place.mean(0) - 0.5) < 0.06).all()
    shown = (image[..., 0] > 0.51).mean((1, 2))
    np.testing.assert_allclose(shown, size.prod(1), atol=0.03)


def test_a_scale_beyond_the_output_cuts_the_canvas():
    _, boxes, classes, _ = augmented(Augment(scale=(1.5, 2), min_area=0), whole(20), (60, 90))
    assert (classes == 0).all()
    np.testing.assert_allclose(boxes, np.tile(np.float32([0, 0, 90, 60]), (20, 1, 1)), atol=1e-3)


def test_changes_have_probabilities():
    image, boxes, classes = whole(200)
    image[:, :, 50:] = 90, 60, 30
    batch = image, boxes, classes
    plain = augmented(Augment(flip=0), batch, (50, 100))
    placed = augmented(Augment(flip=0, scale=(0.5, 0.6), placed=0.3), batch, (50, 100))
    same = np.isclose(placed[1], plain[1], atol=1e-3).all((1, 2))
    assert 0.6 < same.mean() < 0.8
    coloured = augmented(Augment(flip=0, hsv=(0.1, 1.5, 1.5), recoloured=0.3), batch, (50, 100))
    same = np.isclose(coloured[0], plain[0], atol=1e-3).all((1, 2, 3))
    assert 0.6 < same.mean() < 0.8


def test_the_quickstarts_draws_stay_as_they_were():
    """Its figures in the README were measured with them."""
    ramp = np.arange(400)
    channels = np.broadcast_arrays(ramp[:, None] * 255 // 400, ramp[None] * 255 // 400, 90)
    image = np.tile(np.stack(channels, -1).astype(np.uint8), (4, 1, 1, 1))
    boxes = np.tile(np.float32([[[100, 120, 300, 290]]]), (4, 1, 1))
    augment = Augment(
        crop=(140, 270), quarter_turns=True, brightness=0.35, contrast=0.35, saturation=0.5,
        hue=0.03, min_area=0,
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(7), 4)
    batch = image, boxes, np.zeros((4, 1), np.int32)
    pixels, moved, *_ = jax.jit(partial(augment, output_shape=(64, 64)))(keys, *batch)
    expected = [
        [21.005, 25.223, 64, 64],
        [0, 0, 37.429, 46.235],
        [17.747, 27.092, 64, 64],
        [0, 0.282, 47.018, 42.82],
    ]
    np.testing.assert_allclose(moved[:, 0], expected, atol=2e-3)
    expected = [
        [0.4025, 0.05676, 0.27977],
        [0.59553, 0.1995, 0.45459],
        [0.07769, 0.53078, 0.32307],
        [0.45119, 0.23765, 0.3968],
    ]
    np.testing.assert_allclose(pixels[:, 10, 50], expected, atol=1e-4)


def test_the_size_of_a_step_is_a_function_of_seed_and_step():
    sides = (320, 352, 384, 416)
    drawn = [step_side(sides, 3, step) for step in range(400)]
    assert drawn == [step_side(sides, 3, step) for step in range(400)]
    assert set(drawn) == set(sides)
    assert all(len(set(drawn[first : first + 10])) == 1 for first in range(0, 400, 10))
    assert drawn != [step_side(sides, 4, step) for step in range(400)]
    assert len({step_side(sides, 3, step, every=1) for step in range(10)}) > 1


def test_several_sizes_are_an_augmentation_each():
    scales = MultiScale(Augment(flip=0), (32, 64), seed=0, every=1)
    kinds = {id(scales.at(step)) for step in range(40)}
    assert len(kinds) == 2
    keys = jax.random.split(jax.random.key(0), 2)
    for step in range(4):
        side = step_side((32, 64), 0, step, every=1)
        image, *_ = jax.eval_shape(scales.at(step), keys, *whole(2))
        assert image.shape == (2, side, side, 3)
    with pytest.raises(ValueError, match="has none"):
        MultiScale(Augment(), (), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (2, 1)}, r"augment\.scale is \(2, 1\); expected \(least, greatest\)"),
        ({"mosaic_zoom": (1, 0.5)}, "mosaic_zoom is"),
        ({"scale": (1, 2), "crop": (100, 200)}, "set one of them"),
        ({"hsv": (0.1, 1.5, 1.5), "hue": 0.1}, "in place of brightness, saturation and hue"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check_fields(Augment(**options), "augment.")
