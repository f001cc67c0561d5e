"""The TPUs that a run can be planned for, and what a slice is. Source: Google's documentation."""

import math
from dataclasses import dataclass

CHIPS_A_HOST = 4


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
        gke: the label of nodes that have it, in Google's Kubernetes.
        vm: what the type of a TPU machine begins with; then comes the number of its cores.
        cores: of a chip, as that number counts them.
        config: libtpu's, by which a chip is one device; None: its default.
    """

    flops: float
    hbm_bytes: float
    hbm_gib: float
    link_bytes: float
    axes: int
    ring: int
    gke: str
    vm: str
    cores: int
    config: str | None = None


CHIPS = {
    "v4": Chip(275e12, 1228e9, 32, 50e9, 3, 4, "tpu-v4-podslice", "v4", 2, "megacore"),
    "v5e": Chip(197e12, 819e9, 16, 50e9, 2, 16, "tpu-v5-lite-podslice", "v5litepod", 1),
    "v5p": Chip(459e12, 2765e9, 95, 100e9, 3, 4, "tpu-v5p-slice", "v5p", 2),
    "v6e": Chip(918e12, 1640e9, 32, 112e9, 2, 16, "tpu-v6e-slice", "v6e", 1),
}
_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
# Less than a cube of 4x4x4; all others are cubes side by side, the shortest axis first.
_BELOW_A_CUBE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
_MOST_CHIPS = {"v4": 4096, "v5p": 6144}


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
        return self.chips // CHIPS_A_HOST

    @property
    def vm_type(self) -> str:
        """Returns the type of a TPU machine that is such a slice, such as v5litepod-16."""
        return f"{self.chip.vm}-{self.chips * self.chip.cores}"

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
    shape = tuple(int(part) if part.isdecimal() else 0 for part in layout.split("x"))
    if kind not in CHIPS or not _is_shape(kind, layout, shape):
        flat, cubes = ", ".join(_FLAT), ", ".join(_BELOW_A_CUBE)
        most = " and ".join(f"{count} ({name})" for name, count in _MOST_CHIPS.items())
        raise ValueError(
            f"there is no target {target!r}; there are v5e and v6e with {flat}, and v4 and v5p "
            f"with {cubes} or three multiples of 4 in rising order, such as 4x4x8, of up to {most} "
            "chips"
        )
    return Slice(target, CHIPS[kind], shape)


def _is_shape(kind: str, layout: str, shape: tuple[int, ...]) -> bool:
    if CHIPS[kind].axes == 2:
        return layout in _FLAT
    is_cubes = len(shape) == 3 and all(n and n % 4 == 0 for n in shape)
    few_enough = math.prod(shape) <= _MOST_CHIPS[kind]
    return layout in _BELOW_A_CUBE or (is_cubes and list(shape) == sorted(shape) and few_enough)
