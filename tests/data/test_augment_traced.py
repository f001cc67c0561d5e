"""Augmentations whose numbers are arguments of a program."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.data.augment import ALONE, COPY, MIXUP, MOSAIC, Augment
from yolo_jax.data.augment.colour import change_colours

MIXED = Augment(mosaic=0.4, mixup=0.3, copy=0.3, quarter_turns=True, max_boxes=6)
# What the pipeline decides by, and shapes, are no arguments.
STATIC = {"quarter_turns", "mosaic", "mixup", "copy", "max_boxes", "multi_scale"}
# Three settings each: one strong, one weak, and one that changes nothing at all.
NEUTRAL = {"flip": 0.0, "min_box_px": 0.0, "min_area": 0.0, "placed": 1.0, "recoloured": 1.0}
CROPPED = [
    {
        "crop": (20.0, 60.0), "aspect_jitter": 0.3, "flip": 0.5, "brightness": 0.4,
        "contrast": 0.3, "saturation": 0.5, "hue": 0.2, "min_box_px": 3.0, "min_area": 0.4,
        "placed": 0.6, "recoloured": 0.7, "mosaic_zoom": (0.4, 0.9), "copy_px": 20.0,
    },
    {
        "crop": (40.0, 40.0), "aspect_jitter": 0.0, "flip": 1.0, "brightness": 0.0,
        "contrast": 0.0, "saturation": 0.1, "hue": 0.0, "min_box_px": 1.0, "min_area": 0.0,
        "placed": 1.0, "recoloured": 1.0, "mosaic_zoom": (1.0, 1.0), "copy_px": 8.0,
    },
    {
        **NEUTRAL, "crop": (64.0, 64.0), "aspect_jitter": 0.0, "brightness": 0.0, "contrast": 0.0,
        "saturation": 0.0, "hue": 0.0, "mosaic_zoom": (1.0, 1.0), "copy_px": 1.0,
    },
]  # fmt: skip
SCALED = [
    {
        "scale": (0.25, 2.0), "aspect_jitter": 0.3, "flip": 0.5, "contrast": 0.2,
        "hsv": (0.1, 1.5, 1.5), "min_box_px": 2.0, "min_area": 0.2, "placed": 0.5,
        "recoloured": 0.5, "mosaic_zoom": (0.5, 1.0), "copy_px": 30.0,
    },
    {
        "scale": (0.5, 0.5), "aspect_jitter": 0.1, "flip": 0.0, "contrast": 0.0,
        "hsv": (0.02, 1.7, 1.0), "min_box_px": 0.0, "min_area": 0.0, "placed": 1.0,
        "recoloured": 1.0, "mosaic_zoom": (0.6, 0.7), "copy_px": 10.0,
    },
    {
        **NEUTRAL, "scale": (1.0, 1.0), "aspect_jitter": 0.0, "contrast": 0.0,
        "hsv": (0.0, 1.0, 1.0), "mosaic_zoom": (1.0, 1.0), "copy_px": 1.0,
    },
]  # fmt: skip


# Optimised, these programs would take more than twice the time to compile.
compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def batch():
    """One group of each way of mixing; smooth, so that rounding moves no pixel by much."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 64
    waves = generator.uniform(0.5, 3, (4, 4, 3, 2, 1, 1))
    images = 127 + 100 * np.sin(waves[..., 0, :, :] * x + waves[..., 1, :, :] * y)
    low = generator.uniform(0, 40, (4, 4, 3, 2))
    boxes = np.concatenate([low, low + generator.uniform(4, 24, low.shape)], axis=-1)
    classes = generator.integers(-1, 3, (4, 4, 3))
    mix = np.array([ALONE, MOSAIC, MIXUP, COPY])
    pixels = np.moveaxis(images, 2, -1).astype(np.uint8)
    return pixels, boxes.astype(np.float32), classes.astype(np.int32), mix.astype(np.int32)


@pytest.mark.parametrize(
    ("kind", "settings"), [(MIXED, CROPPED), (Augment(), SCALED)], ids=["mixed, crop", "scale"]
)
def test_one_program_serves_settings_that_differ_in_numbers(kind, settings):
    others = {field.name for field in dataclasses.fields(Augment)} - settings[0].keys()
    assert others <= STATIC | {"crop", "scale", "hsv", "brightness", "saturation", "hue"}
    keys, (*given, mix) = jax.random.split(jax.random.key(3), 4), batch()
    given = (*given, mix) if kind.group > 1 else [part[:, 0] for part in given]

    def augmented(numbers):
        return dataclasses.replace(kind, **numbers)(keys, *given, output_shape=(48, 48))

    stacked = jax.tree.map(lambda *numbers: jnp.asarray(numbers, jnp.float32), *settings)
    together = compiled(partial(jax.lax.map, augmented))(stacked)
    for index in (0, 2):
        expected = compiled(partial(augmented, settings[index]))()
        found = jax.tree.map(lambda part, index=index: part[index], together)
        np.testing.assert_array_equal(found.classes, expected.classes)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-5)
        np.testing.assert_allclose(found.image, expected.image, atol=1e-6)


def test_a_plain_zero_leaves_its_operation_out():
    image, key = jnp.zeros((4, 4, 3)), jax.random.key(0)

    def program(**numbers):
        strengths = {"brightness": 0.1, "contrast": 0.0, "saturation": 0.0, "hue": 0.0} | numbers
        return str(jax.make_jaxpr(partial(change_colours, **strengths))(key, image))

    assert "cos" not in program() and "dot_general" not in program()
    assert "cos" in program(hue=0.1) and "dot_general" in program(saturation=0.1)
    traced = jax.make_jaxpr(lambda zero: change_colours(key, image, 0.1, zero, zero, zero))
    assert "cos" in str(traced(0.0))


def test_plain_numbers_are_still_checked_beside_traced_ones():
    def run(number):
        refused = {"scale": (2.0, 1.0)}, {"hsv": (0.1, 1.5, 1.5), "hue": 0.1}
        for numbers in refused:
            with pytest.raises(ValueError, match="expected|in place of"):
                Augment(**numbers, flip=number).check()
        Augment(scale=(number, 1.0), hsv=(0.1, number, 1.5), hue=number).check()
        return number

    jax.jit(run)(2.0)
