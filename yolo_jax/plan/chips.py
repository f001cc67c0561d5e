"""The TPUs that a run can be planned for, and what a slice is. Source: Google's documentation."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """One chip, and how it is joined to others.

    Attributes:
        flops: bfloat16 operations a second.
        hbm_bytes: a second.
        hbm_gib: that it has.
        link_bytes: a second, of one link in one direction; each axis of the slice has two links.
        axes: of a slice.
        ring: chips along an axis from whose multiples on it closes to a ring.
        hosts: chips that one host has.
    """

    flops: float
    hbm_bytes: float
    hbm_gib: float
    link_bytes: float
    axes: int
    ring: int
    hosts: int = 4


CHIPS = {
    "v5e": Chip(197e12, 819e9, 16, 50e9, 2, 16),
    "v5p": Chip(459e12, 2765e9, 95, 100e9, 3, 4),
    "v6e": Chip(918e12, 1640e9, 32, 112e9, 2, 16),
}
_EXAMPLES = {
    "v5e": "2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16",
    "v5p": "2x2x1, 2x2x2, 2x4x4, 4x4x4, 4x4x8, 8x8x8, 8x8x16",
    "v6e": "2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16",
}


@dataclass(frozen=True)
class Slice:
    """Chips that are joined.

    Attributes:
        name: such as v5e:16x16.
        chip: of each.
        shape: chips along the axes.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """Returns their number."""
        return math.prod(self.shape)

    @property
    def hosts(self) -> int:
        """Returns the hosts that they have."""
        return -(-self.chips // self.chip.hosts)

    def all_reduce_seconds(self, size: float, chips: int | None = None) -> float:
        """Returns the time in which arrays of all chips are added up, each by its links alone.

        Rings along all axes at once, each for its part, both ways; an axis that does not close has
        half of that. No latency is counted.

        Args:
            size: bytes of a chip's arrays.
            chips: that take part; None: all.
        """
        count = self.chips if chips is None else chips
        if count == 1:
            return 0.0
        per_axis = [
            2 * self.chip.link_bytes / (1 if length % self.chip.ring == 0 else 2)
            for length in self.shape
            if length > 1
        ]
        return 2 * (count - 1) / count * size / sum(per_axis)


def slice_of(target: str) -> Slice:
    """Reads a target such as v5e:16x16.

    Raises:
        ValueError: there is none such; lists those there are.
    """
    kind, _, layout = target.partition(":")
    known = "; ".join(f"{name}: {layouts}" for name, layouts in _EXAMPLES.items())
    shape = tuple(int(part) if part.isdecimal() else 0 for part in layout.split("x"))
    if kind not in CHIPS or len(shape) != CHIPS[kind].axes or not all(shape):
        raise ValueError(f"there is no target {target!r}; there are {known}")
    if any(length % 2 for length in shape[:2]):
        raise ValueError(f"{target} has no whole hosts, of 2x2 chips each; there are {known}")
    return Slice(target, CHIPS[kind], shape)
