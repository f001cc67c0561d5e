"""Labels that are no class of the output are refused before a step."""

import numpy as np
import pytest
from line_model import alike

from yolo_jax import Input, Model, losses
from yolo_jax.layers import Dense, Masking

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
IDS = np.arange(12) % 3


def classifier(loss="sparse_categorical_crossentropy"):
    x = Input((4,), name="x")
    model = Model(x, Dense(3, activation="softmax", name="out")(x))
    model.compile("sgd", loss, metrics=["accuracy"])
    return model


WRONG = [
    (IDS + 1, "from 1 to 3"),
    (IDS - 1, "from -1 to 1"),
    (IDS + 0.5, "from 0.5 to 2.5, 0.5 among them"),
    (np.where(IDS == 1, np.nan, IDS), "from nan to nan, nan among them"),
]


@pytest.mark.parametrize(("labels", "found"), WRONG)
@pytest.mark.parametrize("column", [True, False])
def test_labels_are_class_ids(labels, found, column):
    labels = labels[:, None] if column else labels
    model = classifier(losses.SparseCategoricalCrossentropy(from_logits=True))
    message = f"labels of output 'out' are class ids, whole numbers from 0 to 2 .*labels {found}"
    for call in (
        lambda: model.fit(X, labels, verbose=0),
        lambda: model.fit(X, IDS, validation_data=(X, labels), verbose=0),
        lambda: model.evaluate(X, labels),
        lambda: model.train_on_batch(X, labels),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match=f"batch 0 .from 0.: the .*{message}"):
        model.fit(iter([(X, labels)]), steps_per_epoch=1, verbose=0)
    assert int(model.state.step) == 0


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, bool])
def test_ids_of_any_dtype_train(kind):
    assert classifier().fit(X, IDS.astype(kind), verbose=0, strict=True).epoch == [0]


@pytest.mark.parametrize("ignored", [-1, 255])
def test_a_row_that_weighs_nothing_may_have_any_label(ignored):
    """As labels that are filled up, or that say 'ignore', do."""
    labels, weight = IDS.copy(), np.ones(12)
    labels[8:], weight[8:] = ignored, 0
    found, expected = alike(classifier(), classifier())
    logs = found.fit(X, labels, sample_weight=weight, shuffle=False, verbose=0, strict=True)
    classes = np.where(labels == ignored, 0, labels)
    other = expected.fit(X, classes, sample_weight=weight, shuffle=False, verbose=0)
    assert logs.history["loss"] == other.history["loss"]
    for old, new in zip(expected.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    if ignored > 0:
        by_class = dict.fromkeys(range(3), 1.0) | {ignored: 0.0}
        found.fit(X, labels, class_weight=by_class, verbose=0, strict=True)


def test_steps_that_weigh_nothing_or_are_masked_may_have_any_label():
    x = Input((3, 4), name="x")
    steps = np.repeat(X[:, None], 3, axis=1)
    labels, weight = np.repeat(IDS[:, None], 3, axis=1), np.ones((12, 3))
    labels[:, 2], weight[:, 2] = -1, 0
    model = Model(x, Dense(3, activation="softmax", name="out")(x))
    model.compile("sgd", "sparse_categorical_crossentropy", sample_weight_mode="temporal")
    model.fit(steps, labels, sample_weight=weight, verbose=0, strict=True)
    with pytest.raises(ValueError, match="labels from -1 to 2"):
        model.fit(steps, labels, verbose=0)
    steps[:, 2] = 0
    model = Model(x, Dense(3, activation="softmax", name="out")(Masking()(x)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(steps, labels, verbose=0, strict=True)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_weights_are_finite(odd):
    weight = np.ones(12)
    weight[5] = odd
    model = classifier()
    with pytest.raises(ValueError, match="sample_weight of output 'out': row 5 .from 0. weighs"):
        model.fit(X, IDS, sample_weight=weight, verbose=0)
    with pytest.raises(ValueError, match="class_weight.1. of output 'out' is a finite number"):
        model.fit(X, IDS, class_weight={0: 1.0, 1: odd, 2: 1.0}, verbose=0)
    assert int(model.state.step) == 0
