"""The TPUs and GPUs that a run can be planned for. Source: their makers' documentation."""

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
class Gpu:
    """One GPU, and how it is joined to others.

    Attributes:
        flops: bfloat16 operations a second, of dense products.
        hbm_bytes: a second.
        hbm_gib: that JAX takes unless told otherwise, three quarters of what it has.
        link_bytes: a second, to the others of its node, in one direction.
        network_bytes: a second, of its part of the node's network, in one direction.
    """

    flops: float
    hbm_bytes: float
    hbm_gib: float
    link_bytes: float
    network_bytes: float


GPUS = {
    "a100": Gpu(312e12, 2039e9, 60.0, 300e9, 25e9),
    "h100": Gpu(989e12, 3350e9, 59.7, 450e9, 50e9),
    "h200": Gpu(989e12, 4800e9, 105.3, 450e9, 50e9),
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
        return self.chips // CHIPS_A_HOST

    @property
    def vm_type(self) -> str:
        """Returns the type of a TPU machine that is such a slice, such as v5litepod-16."""
        return f"{self.chip.vm}-{self.chips * self.chip.cores}"

    @property
    def compiled_for(self) -> "Slice":
        """Returns itself."""
        return self

    @property
    def is_estimated(self) -> bool:
        """Tells that XLA's figures are of these chips."""
        return False

    @property
    def memory_factor(self) -> float:
        """Returns how much more memory than by XLA's figures a program takes."""
        return 1.0

    def up_to_it(self) -> list["Slice"]:
        """Returns slices of these chips from one chip on, each about twice the one before."""
        shapes = [(1,), *(_shape(layout) for layout in _FLAT)]
        if self.chip.axes == 3:
            shapes = [(1,), *(_shape(layout) for layout in _BELOW_A_CUBE), (4, 4, 4)]
            while math.prod(shapes[-1]) < self.chips:
                shapes.append(tuple(sorted((2 * shapes[-1][0], *shapes[-1][1:]))))
        below = [shape for shape in shapes if math.prod(shape) < self.chips]
        return [*(Slice(self.name, self.chip, shape) for shape in below), self]

    def all_reduce_seconds(self, size: float) -> float:
        """Returns the time in which arrays of all chips are added up, each by its links alone.

        Rings along all axes at once, each for its part, both ways; an axis that does not close has
        half of that. No latency is counted.

        Args:
            size: bytes of a chip's arrays.
        """
        if self.chips == 1:
            return 0.0
        # Cubes alone have links that lead round.
        closes = self.chip.axes == 2 or all(n % self.chip.ring == 0 for n in self.shape)
        per_axis = [
            2 * self.chip.link_bytes / (1 if closes and length % self.chip.ring == 0 else 2)
            for length in self.shape
            if length > 1
        ]
        return 2 * (self.chips - 1) / self.chips * size / sum(per_axis)


@dataclass(frozen=True)
class Nodes:
    """Nodes of GPUs.

    What a step computes and moves there is taken from XLA's program for TPU v5p, of the same batch
    a chip, and of what it holds 1.4 times: an estimate. On an H100 a step of YOLOv3 with 64 images
    held 1.4 times of what v5e's program does, and took 3.9 times the bound by bytes.

    Attributes:
        name: such as h100:8x4.
        chip: of each.
        shape: GPUs of a node, and nodes.
    """

    name: str
    chip: Gpu
    shape: tuple[int, int]

    @property
    def chips(self) -> int:
        """Returns the number of GPUs."""
        return math.prod(self.shape)

    @property
    def hosts(self) -> int:
        """Returns the number of nodes."""
        return self.shape[1]

    @property
    def compiled_for(self) -> Slice:
        """Returns a slice of as many TPU v5p, or of four, whose program is like it but for fsdp."""
        layouts = {8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8"}
        return slice_of(f"v5p:{layouts.get(self.chips, '2x2x1')}")

    @property
    def is_estimated(self) -> bool:
        """Tells that XLA's figures are of other chips."""
        return True

    @property
    def memory_factor(self) -> float:
        """Returns how much more memory than by XLA's figures a program takes: see the class."""
        return 1.4

    def up_to_it(self) -> list["Nodes"]:
        """Returns such GPUs from one on, each about twice the ones before."""
        within, nodes = self.shape
        shapes = [(2**n, 1) for n in range(4) if 2**n < within]
        shapes += [(within, 2**n) for n in range(nodes.bit_length()) if 2**n < nodes]
        return [*(Nodes(self.name, self.chip, shape) for shape in shapes), self]

    def all_reduce_seconds(self, size: float) -> float:
        """Returns the time in which arrays of all GPUs are added up.

        A ring within each node, then rings over the network, each GPU's for its own part.

        Args:
            size: bytes of a GPU's arrays.
        """
        within, nodes = self.shape
        seconds = 2 * (within - 1) / within * size / self.chip.link_bytes
        return seconds + 2 * (nodes - 1) / nodes * size / within / self.chip.network_bytes


Place = Slice | Nodes


def place_of(target: str) -> Place:
    """Reads a target such as v5e:16x16 or h100:8x4, eight GPUs in each of four nodes.

    Raises:
        ValueError: there is none such; lists those there are.
    """
    kind, _, layout = target.partition(":")
    if kind not in GPUS:
        return slice_of(target)
    shape = _shape(layout)
    if len(shape) != 2 or not all(shape) or shape[0] > 8:
        raise ValueError(
            f"there is no target {target!r}; of {kind} there are 1 to 8 in a node, such as "
            f"{kind}:8x1, and any number of nodes, such as {kind}:8x4"
        )
    return Nodes(target, GPUS[kind], (shape[0], shape[1]))


def slice_of(target: str) -> Slice:
    """Reads a target such as v5e:16x16.

    Raises:
        ValueError: there is none such; lists those there are.
    """
    kind, _, layout = target.partition(":")
    shape = _shape(layout)
    is_plain = layout == "x".join(map(str, shape))
    if kind not in CHIPS or not is_plain or not _is_shape(kind, layout, shape):
        flat, cubes = ", ".join(_FLAT), ", ".join(_BELOW_A_CUBE)
        most = " and ".join(f"{count} ({name})" for name, count in _MOST_CHIPS.items())
        raise ValueError(
            f"there is no target {target!r}; there are GPUs ({', '.join(GPUS)}), such as h100:8x4, "
            f"v5e and v6e with {flat}, and v4 and v5p "
            f"with {cubes} or three multiples of 4 in rising order, such as 4x4x8, of up to {most} "
            "chips"
        )
    return Slice(target, CHIPS[kind], shape)


def _shape(layout: str) -> tuple[int, ...]:
    """Reads 4x8; what is no number is 0."""
    return tuple(int(part) if part.isdecimal() else 0 for part in layout.split("x"))


def _is_shape(kind: str, layout: str, shape: tuple[int, ...]) -> bool:
    if CHIPS[kind].axes == 2:
        return layout in _FLAT
    is_cubes = len(shape) == 3 and all(n and n % 4 == 0 for n in shape)
    few_enough = math.prod(shape) <= _MOST_CHIPS[kind]
    return layout in _BELOW_A_CUBE or (is_cubes and list(shape) == sorted(shape) and few_enough)
