"""Arguments that mean nothing are refused where they are given, by name, with what was found."""

import numpy as np
import pytest

from yolo_jax import Input, K, Lambda, Model, callbacks, metrics, optimizers
from yolo_jax import layers as L  # noqa: N812 - as Keras's users write it
from yolo_jax.model.data import Reading
from yolo_jax.model.plot import plot_model

NAN, INFINITY = float("nan"), float("inf")


def row() -> object:
    return Input((4,), name="row")


def image() -> object:
    return Input((8, 8, 3), name="image")


@pytest.mark.parametrize("value", [0, -1, 2.5, "3", None, True])
@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda n: L.Dense(n), "units"),
        (lambda n: L.Conv2D(n, 3), "filters"),
        (lambda n: L.SeparableConv2D(n, 3), "filters"),
        (lambda n: L.DepthwiseConv2D(3, depth_multiplier=n), "depth_multiplier"),
        (lambda n: L.Embedding(n, 2), "input_dim"),
        (lambda n: L.RepeatVector(n), "n"),
        (lambda n: metrics.TopKCategoricalAccuracy(k=n), "k"),
        (lambda n: metrics.SparseTopKCategoricalAccuracy(k=n), "k"),
        (lambda n: metrics.MeanIoU(n), "num_classes"),
        (lambda n: callbacks.ModelCheckpoint("w.h5", period=n), "period"),
        (lambda n: callbacks.Checkpoint("run", keep=n), "keep"),
    ],
)
def test_numbers_from_one(make, argument, value):
    message = f"{argument} is a whole number, 1 or more; found {value!r}"
    with pytest.raises(ValueError, match=message):
        make(value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: L.Conv2D(3, 9)(image()), ValueError, "window of 9 × 9 is larger .* of 8 × 8"),
        (lambda: L.Conv2D(3, 3, dilation_rate=4)(image()), ValueError, "its window of 9 × 9"),
        (lambda: L.DepthwiseConv2D((2, 9))(image()), ValueError, "its window of 2 × 9"),
        (lambda: L.MaxPooling2D(9)(image()), ValueError, "its window of 9 × 9"),
        (lambda: L.AveragePooling2D(9)(image()), ValueError, "its window of 9 × 9"),
        (lambda: L.Conv2D(3, 2.5), ValueError, "`kernel_size` must be .*; found 2.5"),
        (lambda: L.Conv2D(3, "3"), ValueError, "`kernel_size` must be .*; found '3'"),
        (lambda: L.Conv2D(3, 3, padding=1), ValueError, "`padding` must be .*; found 1"),
        (lambda: L.Dense(2, input_shape=(7,))(row()), ValueError, r"input_shape=\(7,\), and is"),
        (lambda: L.Dense(2, input_shape=4), TypeError, "input_shape is a tuple.*; found 4"),
        (lambda: L.Dense(2, dtype="flaot32"), TypeError, "dtype is an element .*'flaot32'"),
        (lambda: L.Dense(2, name=3), TypeError, "name is a text, or None .*; found 3"),
        (lambda: L.Dense(2, trainable="False"), TypeError, "trainable is True or .*'False'"),
        (lambda: setattr(L.Dense(2), "trainable", 7), TypeError, "trainable is True or.*7"),
        (lambda: Lambda(abs, mask="yes"), TypeError, "mask is a function .*; found 'yes'"),
        (lambda: Input((3,), dtype="flaot32"), TypeError, "Input: dtype .* found 'flaot32'"),
        (lambda: Input((3,), batch_size=0), ValueError, "batch_size is a whole number, 1 or"),
        (lambda: Input((3,), name=3), TypeError, "name is a text"),
        (lambda: Input(tensor=row()), TypeError, "an array or a data source; .*tensor 'row'"),
        (lambda: Model(row(), Lambda(abs)), TypeError, "outputs are symbolic .*Lambda .*call it"),
        (lambda: Model(3, 4), TypeError, "a Model's inputs are symbolic tensors .*; found int 3"),
        (lambda: Model(row(), None), TypeError, "outputs are symbolic tensors .*; found NoneType"),
        (lambda: Model([], []), ValueError, r"a Model needs inputs; found \[\]"),
        (lambda: Model([x := row(), x], L.Dense(1)(x)), ValueError, "once each; found .*'row'"),
        (lambda: L.Dense(2)(Lambda(abs)), TypeError, "found Lambda, which has to be called on"),
        (lambda: L.Conv2D(3, 3)(None), TypeError, "is called on symbolic .*; found NoneType"),
        (lambda: L.Dense(3)("row"), TypeError, "is called on symbolic .*; found str"),
        (lambda: L.Dense(3)([]), TypeError, "is called on symbolic .*; found an empty list"),
        (lambda: L.Add()([row(), Input((5,))]), ValueError, "could not be broadcast.*'add_"),
        (lambda: L.Concatenate(axis=5)([row(), row()]), ValueError, "from -2 to 1 .*; found 5"),
        (lambda: L.BatchNormalization(axis=7)(row()), ValueError, "`axis` is .*; found 7"),
        (lambda: L.LayerNormalization(axis=7)(row()), ValueError, "`axis` is .*; found 7"),
        (lambda: L.Softmax(axis=-3)(row()), ValueError, "`axis` is .*; found -3"),
        (lambda: metrics.Precision(top_k=0), ValueError, "top_k is a whole number, 1 or"),
        (lambda: callbacks.Checkpoint("run", every_steps=-1), ValueError, "every_steps is a who"),
        (lambda: callbacks.Checkpoint(__file__), NotADirectoryError, "in a folder; .* is a file"),
        (lambda: callbacks.EarlyStopping(patience="1"), ValueError, "patience is a .*found '1'"),
        (lambda: callbacks.EarlyStopping(patience=-1), ValueError, "patience is a .*found -1"),
        (lambda: callbacks.EarlyStopping(min_delta="a"), ValueError, "min_delta is a finite"),
        (lambda: callbacks.EarlyStopping(3), TypeError, "monitor is a key of the logs.*found 3"),
        (lambda: callbacks.ReduceLROnPlateau(patience="1"), ValueError, "patience is a whole"),
        (lambda: callbacks.ReduceLROnPlateau(cooldown=-1), ValueError, "cooldown is a whole"),
        (lambda: callbacks.ReduceLROnPlateau(factor="a"), ValueError, "factor is a finite"),
        (lambda: callbacks.ReduceLROnPlateau(min_lr=NAN), ValueError, "min_lr is a finite"),
        (lambda: optimizers.Adam(lr=INFINITY), ValueError, "learning_rate is a .*found inf"),
        (lambda: optimizers.Adam(lr=NAN), ValueError, "learning_rate is a .*found nan"),
        (lambda: optimizers.Adam(lr=1, learning_rate=3), TypeError, "Adam: lr is the old name"),
        (lambda: optimizers.SGD(0.1, lr=0.2), TypeError, "found both, lr=0.2"),
        (lambda: Reading(workers=-1), ValueError, "workers is a whole number, 0 or more; found -1"),
        (lambda: Reading(workers="2"), ValueError, "workers is a whole number.*found '2'"),
        (lambda: Reading(max_queue_size="9"), ValueError, "max_queue_size is a whole.*found '9'"),
        (lambda: K.set_value(K.variable(np.zeros(3)), np.zeros(5)), ValueError, r"\(3,\).*\(5,\)"),
        (lambda: plot_model(3), TypeError, "plot_model draws a Model; found int"),
    ],
)
def test_it_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_is_possible_stays_so():
    """The neighbours of what is refused."""
    assert L.Conv2D(np.int64(3), 8)(image()).shape == (None, 1, 1, 3)
    assert L.Conv2D(3, 9, padding="same")(image()).shape == (None, 8, 8, 3)
    assert L.Conv2D(3, 9)(Input((None, None, 3))).shape == (None, None, None, 3)
    assert L.Add()([Input((4, 1)), Input((1, 5)), Input((5,))]).shape == (None, 4, 5)
    assert L.Dense(2, input_shape=(None,))(row()).shape == (None, 2)
    layer = L.Dense(2, trainable=np.bool_(False))
    assert layer.trainable is False
    layer.trainable = 1
    assert layer.trainable is True
