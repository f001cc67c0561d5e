from pathlib import Path

import numpy as np
import pytest

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.shares import split_off


def dataset(count):
    listed = tuple(
        Annotation(
            number, Path(f"{number}.jpg"), 8, 8, np.zeros((0, 4), np.float32),
            np.zeros(0, np.int32), np.zeros(0, bool),
        )
        for number in range(count)
    )  # fmt: skip
    return Dataset(listed, ("ash",), origin=Path("trees.json"))


def numbers(part):
    return [annotation.image_id for annotation in part.annotations]


def test_shares_are_apart_and_in_order_and_the_same_each_time():
    rest, first, second = split_off(dataset(50), (0.1, 0.2))
    assert [len(part.annotations) for part in (rest, first, second)] == [35, 5, 10]
    found = [numbers(part) for part in (rest, first, second)]
    assert sorted(sum(found, [])) == list(range(50))
    assert all(part == sorted(part) for part in found)
    assert found == [numbers(part) for part in split_off(dataset(50), (0.1, 0.2))]
    assert numbers(rest)[3:5] == [one.image_id for one in rest.annotations[3:5]]
    assert rest.class_names == ("ash",) and rest.origin == Path("trees.json")


def test_a_share_has_an_image_and_none_has_none():
    rest, first, second = split_off(dataset(3), (0.01, 0))
    assert [len(numbers(part)) for part in (rest, first, second)] == [2, 1, 0]
    with pytest.raises(ValueError, match=r"trees\.json has 2 images, of which shares"):
        split_off(dataset(2), (0.1, 0.1))
