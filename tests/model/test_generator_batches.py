"""Batches of generators and Sequences: their memory, their dtypes, their rows."""

import numpy as np
import pytest
from line_model import LINE_X, LINE_Y, alike, make_line

from yolo_jax.model.enqueuer import Enqueuer
from yolo_jax.model.sequence import is_sequence

WIDE = np.random.default_rng(0).normal(size=(40, 3000, 2)).astype(np.float32)


def refilled(batches, targets):
    """One buffer for all batches, as image readers do to save memory."""
    x, y = np.empty_like(batches[0]), np.empty_like(targets[0])
    for batch, target in zip(batches, targets, strict=True):
        x[:], y[:] = batch, target
        yield x, y
        x[:], y[:] = np.nan, np.nan


def anew(batches, targets):
    yield from zip(batches, targets, strict=True)


class Duck:
    """A Sequence by its methods, of whatever class."""

    def __init__(self, batches, targets):
        self.batches, self.targets, self.ended = batches, targets, 0
        self.x, self.y = np.empty_like(batches[0]), np.empty_like(targets[0])

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        self.x[:], self.y[:] = self.batches[index], self.targets[index]
        return self.x, self.y

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def on_epoch_end(self):
        self.ended += 1


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("make", [refilled, Duck])
def test_a_buffer_may_be_filled_again(make, workers):
    targets = WIDE[..., :1] * 2 + 1
    expected, found = alike(make_line(), make_line())
    for model, source in ((expected, anew), (found, make)):
        model.fit_generator(
            source(WIDE, targets), 40, verbose=0, workers=workers, shuffle=False
        )  # fmt: skip
    for old, new in zip(expected.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    given = {"steps": 40, "workers": workers}
    assert found.evaluate_generator(make(WIDE, targets), **given) == pytest.approx(
        found.evaluate_generator(anew(WIDE, targets), **given), rel=1e-6
    )
    np.testing.assert_array_equal(
        found.predict_generator(make(WIDE, targets), **given),
        found.predict_generator(anew(WIDE, targets), **given),
    )


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_items_own_their_memory(workers):
    with Enqueuer(refilled(WIDE[:5], WIDE[:5]), workers=workers) as items:
        for (x, y), expected in zip(list(items), WIDE[:5], strict=True):
            np.testing.assert_array_equal(x, expected)
            np.testing.assert_array_equal(y, expected)


def test_what_has_a_sequences_methods_is_one():
    rows = Duck(WIDE[:3], WIDE[:3, :, :1])
    assert is_sequence(rows) and not is_sequence([WIDE]) and not is_sequence(WIDE)
    assert make_line().fit(rows, epochs=2, verbose=0, workers=0).epoch == [0, 1]
    assert rows.ended == 2


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "validate"])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_empty_batch_is_named(method, workers):
    def batches():
        yield LINE_X[:4], LINE_Y[:4]
        yield LINE_X[:0], LINE_Y[:0]

    model = make_line()
    calls = {
        "fit": lambda: model.fit(batches(), steps_per_epoch=2, verbose=0, workers=workers),
        "evaluate": lambda: model.evaluate(batches(), steps=2, workers=workers),
        "predict": lambda: model.predict(batches(), steps=2, workers=workers),
        "validate": lambda: model.fit(
            LINE_X, LINE_Y, validation_data=batches(), validation_steps=2, verbose=0,
            workers=workers,
        ),
    }  # fmt: skip
    with pytest.raises(ValueError, match="Received an empty batch. .* at least one item; batch 1 "):
        calls[method]()


def test_an_empty_batch_of_a_loader_is_named():
    class Loader:
        def __len__(self):
            return 1

        def batches(self, start=0):
            yield LINE_X[:0], LINE_Y[:0]

    with pytest.raises(ValueError, match="Received an empty batch. .*; batch 0 .from 0. has none"):
        make_line().fit(Loader(), verbose=0)


@pytest.mark.parametrize("kinds", [("f8", "f4", "f2"), ("f2", "f4", "f8"), ("f4", "f8", "f2")])
def test_floats_of_any_size_are_the_inputs(kinds):
    """As in Keras; whole numbers are not silently floats."""

    def batches(kinds):
        for kind in kinds:
            x = LINE_X.astype("f2").astype(kind)
            yield x, LINE_Y.astype("f2").astype(kind)

    models = alike(make_line(), make_line())
    for model, of in zip(models, (kinds, ("f4",) * 3), strict=True):
        model.fit(batches(of), steps_per_epoch=3, verbose=0, workers=0)
    for found, expected in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_batch_of_another_structure_is_told_in_words():
    batches = [(LINE_X, LINE_Y), (LINE_X.astype(int), LINE_Y, np.ones(12))]
    with pytest.raises(ValueError, match="another structure") as caught:
        make_line().fit(iter(batches), steps_per_epoch=2, verbose=0)
    message = str(caught.value)
    assert message.count("'x'") == 1
    assert "input 'x' was float32 of 2 axes, the last of 2 and is int64 of 2 axes" in message
    assert "sample_weight of output 'line' was not there and is float32 of 1 axes now" in message
