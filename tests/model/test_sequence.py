"""`Sequence`, the batches by index."""

import pytest

from yolo_jax.model.sequence import Sequence, is_sequence


class Squares(Sequence):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index**2


class FromKeras:
    use_sequence_api = True


def test_iterating_is_one_pass():
    assert list(Squares()) == [0, 1, 4, 9]
    assert Squares().on_epoch_end() is None


def test_what_a_subclass_lacks_is_named():
    with pytest.raises(NotImplementedError, match="Sequence needs __len__"):
        len(Sequence())
    with pytest.raises(NotImplementedError, match="Sequence needs __getitem__"):
        Sequence()[0]


def test_keras_own_classes_are_sequences_and_lists_are_not():
    assert is_sequence(Squares())
    assert is_sequence(FromKeras())
    assert not is_sequence([1, 2])
    assert not is_sequence(iter([1]))
