"""Images in two halves, one behind the other in the batch, where a TPU would pad the batch.

A TPU keeps arrays in tiles of 128 in one axis, batch or channels. The first features of Darknet-53
have 32 and 64 channels, so at 64 images both axes fill half a tile, and every pass over memory
takes twice the bytes. Halves of rows make 128 of 64 images.

The halves share rows where they meet, enough for what the convolutions see: the outermost of these
are wrong, as convolutions take what is beyond for zeros, and each convolution spoils some more of
them. `joined` leaves them out.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Rows of the image beyond the middle. What is joined is at stride 4, where 2 rows of them are left,
# and the stem, its downsamplings and the residual block between spoil no more.
_SHARED = 8
_LANES = 128


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bands:
    """What a batch of halves is made of.

    Attributes:
        rows: of the image.
        row_mask: of the halves, False for those that only fill the batch; None: all count.
    """

    rows: int = field(metadata={"static": True})
    row_mask: Bool[Array, "2*b"] | None

    def own(self, height: int) -> int:
        """Returns how many of a half's rows of features are its own, at any stride up to 4."""
        half = self.rows // 2
        return height * half // (half + _SHARED)

    def counted(self, height: int) -> Bool[Array, "2 height"]:
        """Tells which rows of features are the upper half's own, and which the lower's."""
        row, own = jnp.arange(height), self.own(height)
        return jnp.stack([row < own, row >= height - own])


def fills_lanes(batch: int) -> bool:
    """Tells whether halves fill lanes that a batch leaves empty; a few images leave most empty."""
    return _LANES // 8 <= batch % _LANES <= _LANES // 2


def halved(
    image: Float[Array, "b h w c"], row_mask: Bool[Array, "b"] | None
) -> tuple[Float[Array, "2*b h2 w c"], Bands]:
    """Cuts images; all upper halves come before the lower ones."""
    rows = image.shape[1]
    height = rows // 2 + _SHARED
    halves = jnp.concatenate([image[:, :height], image[:, -height:]])
    return halves, Bands(rows, None if row_mask is None else jnp.tile(row_mask, 2))


def joined(features: Float[Array, "2*b h2 w c"], bands: Bands) -> Float[Array, "b h w c"]:
    """Puts the halves of features together, of each its own rows."""
    upper, lower = jnp.split(features, 2)
    own = bands.own(features.shape[1])
    return jnp.concatenate([upper[:, :own], lower[:, -own:]], axis=1)
