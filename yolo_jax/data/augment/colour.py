"""Colours of an image, changed at random: relative changes, or keras-yolo3's in HSV."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from yolo_jax.core.numbers import may_differ

# ITU-R BT.601 luma, as Pillow turns RGB to grey.
_LUMA = (0.299, 0.587, 0.114)


def change_colours(
    key: Key[Array, ""],
    image: Float[Array, "h w 3"],
    brightness: float | Array,
    contrast: float | Array,
    saturation: float | Array,
    hue: float | Array,
) -> Float[Array, "h w 3"]:
    """Changes brightness, saturation, hue and contrast, each by up to ± its relative change.

    Args:
        key: decides by how much.
        image: RGB of 0–1.
        brightness: as of the exposure.
        contrast: about the image's mean.
        saturation: about the grey image.
        hue: of the full circle, about the grey axis.
    """
    draws = jax.random.uniform(key, (4,), minval=-1, maxval=1)
    # A factor, as a camera's exposure is: adding would leave dark forest no pixel but black.
    image = image * (1 + draws[0] * brightness)
    if may_differ(contrast, 0) or may_differ(saturation, 0):
        grey = image @ jnp.asarray(_LUMA)
        image = grey[..., None] + (image - grey[..., None]) * (1 + draws[2] * saturation)
    if may_differ(hue, 0):
        image = _turn_hue(image, draws[3] * hue)
    if may_differ(contrast, 0):
        mean = grey.mean()
        image = mean + (image - mean) * (1 + draws[1] * contrast)
    return jnp.clip(image, 0, 1)


def change_hsv(
    key: Key[Array, ""],
    image: Float[Array, "h w 3"],
    limits: tuple[float | Array, float | Array, float | Array],
) -> Float[Array, "h w 3"]:
    """Shifts the hue, and multiplies or divides saturation and value, by keras-yolo3's rule.

    Source: qqwweee/keras-yolo3, yolo3/utils.py, `get_random_data`.

    Args:
        key: decides by how much.
        image: RGB of 0–1.
        limits: greatest shift of the hue, of the full circle; greatest factor, or divisor, of the
            saturation; the same of the value.
    """
    hue_key, factor_key, way_key = jax.random.split(key, 3)
    shift = jax.random.uniform(hue_key, minval=-limits[0], maxval=limits[0])
    factor = jax.random.uniform(factor_key, (2,), minval=1, maxval=jnp.asarray(limits[1:]))
    factor = jnp.where(jax.random.bernoulli(way_key, shape=(2,)), factor, 1 / factor)

    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    per_chroma = 1 / jnp.where(chroma > 0, chroma, 1)
    sixths = jnp.where(
        value == green, 2 + (blue - red) * per_chroma, 4 + (red - green) * per_chroma
    )
    sixths = jnp.where(value == red, (green - blue) * per_chroma, sixths) + 6 * shift
    sixths -= 6 * jnp.floor(sixths / 6)
    saturation = jnp.minimum(chroma / jnp.where(value > 0, value, 1) * factor[0], 1)
    value = jnp.minimum(value * factor[1], 1)
    chroma = value * saturation
    shares = (  # of the chroma that each channel has, by the hue in sixths of the circle
        jnp.clip(jnp.abs(sixths - 3) - 1, 0, 1),
        jnp.clip(2 - jnp.abs(sixths - 2), 0, 1),
        jnp.clip(2 - jnp.abs(sixths - 4), 0, 1),
    )
    return jnp.stack([value - chroma + chroma * share for share in shares], axis=-1)


def _turn_hue(image: Float[Array, "h w 3"], turn: Float[Array, ""]) -> Float[Array, "h w 3"]:
    """Rotates colours about the grey axis by `turn` of a full circle (Rodrigues' formula)."""
    angle = 2 * jnp.pi * turn
    axis = jnp.full(3, 3**-0.5)
    along = (image @ axis)[..., None] * axis
    across = jnp.cross(axis, image)
    return along + (image - along) * jnp.cos(angle) + across * jnp.sin(angle)
