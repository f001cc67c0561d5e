from pathlib import Path

import numpy as np
import pytest

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.classes import in_classes


def dataset(*names: str) -> Dataset:
    annotation = Annotation(
        image_id=4,
        path=Path("4.png"),
        width=9,
        height=9,
        boxes=np.zeros((3, 4), np.float32),
        classes=np.asarray([0, 1, 0], np.int32),
        crowd=np.zeros(3, bool),
    )
    empty = Annotation(5, Path("5.png"), 9, 9, annotation.boxes[:0], annotation.classes[:0],
                       annotation.crowd[:0])  # fmt: skip
    return Dataset((annotation, empty), names, Path("held_out.json"))


def test_indices_follow_the_names():
    moved = in_classes(dataset("oak", "ash"), ("ash", "elm", "oak"))
    assert moved.class_names == ("ash", "elm", "oak")
    assert moved.annotations[0].classes.tolist() == [2, 0, 2]
    assert moved.annotations[0].classes.dtype == np.int32
    assert moved.annotations[1].classes.shape == (0,)


def test_a_class_that_was_not_trained_is_refused():
    with pytest.raises(ValueError, match=r"held_out\.json has the classes \['oak'\], which"):
        in_classes(dataset("oak", "ash"), ("ash", "elm"))


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two classes have the name 'ash'"):
        in_classes(dataset("ash", "ash"), ("ash",))
