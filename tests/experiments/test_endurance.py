"""What `yolo-jax bench endurance` says of readings whose growth is known."""

import numpy as np
import pytest

from experiments.benchmarks.endurance import Reading, is_flat, slope, steady, tell


def readings(**growth: float) -> list[Reading]:
    """Three starts of seven minutes, each from another height, with a noise that has no slope."""
    held = {"memory": 2500.0, "files": 70.0, "threads": 72.0}
    noise = [1, -1, -1, 1]
    return [
        Reading(
            start, minute,
            **{name: at + 10 * start + growth.get(name, 0) * minute + noise[index % 4]
               for name, at in held.items()},
        )
        for start in range(3)
        for index, minute in enumerate(np.linspace(3, 10, 84))
    ]  # fmt: skip


def test_the_slope_is_of_the_lines_within_starts():
    groups = np.repeat([0.0, 1.0], 3)
    x = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])
    assert slope(groups, x, 3 * x + 100 * groups) == pytest.approx(3)
    assert slope(groups, x, -100 * groups) == pytest.approx(0)


def test_the_epochs_that_compile_do_not_count():
    assert steady([9.0, 8.0, 1.0, 1.1, 9.0, 8.0, 1.2], [0, 4, 7]) == [(2, 1.0), (3, 1.1), (6, 1.2)]


@pytest.mark.parametrize(
    ("growth", "slower", "flat"),
    [
        ({}, 1.0, True),
        ({"memory": 0.9, "files": -0.1}, 1.04, True),
        ({"memory": 1.1}, 1.0, False),
        ({"files": 0.02}, 1.0, False),
        ({"threads": 0.02}, 1.0, False),
        ({}, 1.1, False),
    ],
)
def test_what_grows_is_told(growth, slower, flat):
    figures = tell(readings(**growth), list(enumerate(np.linspace(0.02, 0.02 * slower, 50))))
    assert figures["starts"] == 3
    assert figures["memory, MB a minute"] == pytest.approx(growth.get("memory", 0), abs=1e-2)
    assert figures["time an image, last by first"] == pytest.approx(slower, abs=0.01)
    assert is_flat(figures) is flat
