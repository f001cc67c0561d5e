from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax import losses
from yolo_jax.model import loss_functions
from yolo_jax.regularizers import L1L2, l1, l1_l2, l2

TRUE = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
FOUND = np.array([[0.5, 1.0], [-1.0, 4.0]], np.float32)
LABELS = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
PARTS = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
EPSILON = 1e-7


def close(found, expected, rtol=1e-5):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", [(0.25 + 1) / 2, (1 + 4) / 2]),
        ("mae", [(0.5 + 1) / 2, (1 + 2) / 2]),
        ("mape", [100 * (0.5 + 1 / EPSILON) / 2, 100 * (1 / EPSILON + 1) / 2]),
        (
            "msle",
            [(np.log(2 / 1.5) ** 2 + np.log(2) ** 2) / 2, np.log(5 / 3) ** 2 / 2],
        ),
        ("logcosh", [np.log(np.cosh([0.5, 1])).mean(), np.log(np.cosh([1, 2])).mean()]),
        ("huber", [(0.125 + 0.5) / 2, (0.5 + 1.5) / 2]),
        (partial(losses.huber, delta=0.5), [(0.125 + 0.375) / 2, (0.375 + 0.875) / 2]),
        # There is a 2 among the labels: so zeros stay zeros.
        ("hinge", [(0.5 + 1) / 2, (1 + 0) / 2]),
        ("squared_hinge", [(0.25 + 1) / 2, (1 + 0) / 2]),
        ("categorical_hinge", [1 - 0.5 + 1, 0]),
        ("cosine_similarity", [-0.5 / np.sqrt(1.25), -8 / (2 * np.sqrt(17))]),
    ],
)
def test_values_by_row(loss, expected):
    function = losses.get(loss)
    close(function(TRUE, FOUND), expected)
    close(jax.jit(function)(TRUE, FOUND), expected)


def test_divergences_of_distributions():
    close(losses.kld(LABELS, PARTS), [-np.log(0.7), -np.log(0.5)])
    close(losses.poisson(LABELS, PARTS), [(1 - np.log(0.7)) / 3, (1 - np.log(0.5)) / 3])


def test_hinge_reads_zeros_and_ones_as_signs():
    found = np.array([[0.5], [0.5]])
    close(losses.hinge(np.array([[0.0], [1.0]]), found), [1.5, 0.5])
    close(losses.hinge(np.array([[-1.0], [1.0]]), found), [1.5, 0.5])


def test_binary_crossentropy():
    found = np.array([[0.9, 0.2]])
    expected = [-(np.log(0.9) + np.log(0.8)) / 2]
    close(losses.binary_crossentropy([[1, 0]], found), expected)
    logits = np.log(found / (1 - found))
    close(losses.binary_crossentropy([[1, 0]], logits, from_logits=True), expected)
    smooth = [-(0.9 * np.log(0.9) + 0.1 * np.log(0.1) + 0.1 * np.log(0.2) + 0.9 * np.log(0.8)) / 2]
    close(losses.binary_crossentropy([[1, 0]], found, label_smoothing=0.2), smooth)
    close(losses.BinaryCrossentropy(label_smoothing=0.2)([[1, 0]], found), smooth)


def test_certain_and_wrong_is_finite():
    """Probabilities are clipped; of float32 the nearest to 1 − 1e-7 is 1 − 2⁻²³."""
    close(losses.binary_crossentropy([[1.0]], [[0.0]]), [-np.log(1e-7)])
    close(losses.binary_crossentropy([[0.0]], [[1.0]]), [23 * np.log(2)])
    close(losses.categorical_crossentropy([[1.0, 0.0]], [[0.0, 1.0]]), [-np.log(1e-7)])
    huge = losses.binary_crossentropy([[0.0]], [[1000.0]], from_logits=True)
    close(huge, [1000])
    slope = jax.grad(lambda z: losses.binary_crossentropy([[0.0]], z, from_logits=True).sum())
    close(slope(jnp.array([[1000.0]])), [[1]])


def test_categorical_crossentropy():
    expected = [-np.log(0.7), -np.log(0.5)]
    close(losses.categorical_crossentropy(LABELS, PARTS), expected)
    close(losses.categorical_crossentropy(LABELS, 3 * PARTS), expected)
    close(losses.categorical_crossentropy(LABELS, np.log(PARTS) + 5, from_logits=True), expected)
    smooth = 0.7 * np.array(expected) - 0.1 * np.log(PARTS).sum(axis=-1)
    close(losses.categorical_crossentropy(LABELS, PARTS, label_smoothing=0.3), smooth)


@pytest.mark.parametrize("ids", [[0, 2], [[0.0], [2.0]]])
def test_sparse_categorical_crossentropy(ids):
    expected = [-np.log(0.7), -np.log(0.5)]
    close(losses.sparse_categorical_crossentropy(np.array(ids), PARTS), expected)
    object_ = losses.SparseCategoricalCrossentropy(from_logits=True)
    close(object_(np.array(ids), np.log(PARTS) - 3), expected)
    steps = losses.sparse_categorical_crossentropy(np.array(ids)[None], PARTS[None])
    close(steps, [expected])


def test_an_id_that_is_no_class_is_not_a_number():
    found = losses.sparse_categorical_crossentropy(np.array([3, -1, 1]), PARTS[[0, 0, 0]])
    np.testing.assert_array_equal(np.isnan(found), [True, True, False])


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"targets have the shape \(2, 1\) .* \(2, 2\)"):
        losses.mse(TRUE[:, :1], FOUND)
    with pytest.raises(ValueError, match="'sparse'"):
        losses.sparse_categorical_crossentropy(LABELS, PARTS)
    # A vector of targets fits a column; a loss computed in the model is one number.
    close(losses.mse(TRUE[:, 0], FOUND[:, :1]), [0.25, 1])
    close(losses.mae(np.zeros((4, 1)), 3.0), [3] * 4)


def test_no_rows():
    assert losses.mse(np.zeros((0, 2)), np.zeros((0, 2))).shape == (0,)


def test_half_precision_is_computed_in_float32():
    found = losses.mse(TRUE, jnp.asarray(FOUND, jnp.bfloat16))
    assert found.dtype == jnp.float32


@pytest.mark.parametrize("name", sorted(loss_functions.FUNCTIONS))
def test_every_function_has_finite_slopes(name):
    ids = "sparse" in name
    true = np.array([0, 2]) if ids else LABELS
    slope = jax.grad(lambda found: losses.get(name)(true, found).sum())(jnp.asarray(PARTS))
    assert np.isfinite(slope).all()


def test_get():
    assert losses.get("mse") is losses.get("MSE") is losses.mean_squared_error
    assert losses.get("MeanSquaredError") == losses.MeanSquaredError()
    assert losses.get(losses.Huber) == losses.Huber(delta=1.0)
    own = losses.Huber(2.0)
    assert losses.get(own) is own
    with pytest.raises(ValueError, match="Unknown loss function:nope; known are .*mse"):
        losses.get("nope")
    with pytest.raises(TypeError, match="found int: 3"):
        losses.get(3)


def test_objects_have_names_and_compare_by_value():
    assert losses.KLDivergence().name == "kullback_leibler_divergence"
    assert losses.Huber(2.0, name="h").name == "h"
    assert losses.Huber(2.0) == losses.Huber(2.0) != losses.Huber(3.0)
    assert hash(losses.CosineSimilarity()) == hash(losses.CosineSimilarity())
    assert loss_functions.function_of(partial(losses.huber, delta=2.0)) is losses.huber
    assert loss_functions.function_of(losses.Huber(2.0)) is losses.huber


@pytest.mark.parametrize("known", loss_functions.CLASSES)
def test_every_object_computes_its_function(known):
    true = np.array([0, 2]) if "Sparse" in known.__name__ else LABELS
    np.testing.assert_array_equal(known()(true, PARTS), known.function(true, PARTS))


def test_regularizers():
    kernel = jnp.array([[1.0, -2.0]])
    close(l1(0.1)(kernel), 0.3)
    close(l2(0.1)(kernel), 0.5)
    close(l1_l2(0.1, 0.1)(kernel), 0.8)
    close(l2()(kernel), 0.05)
    close(L1L2()(kernel), 0)
    assert l2(5e-4) == L1L2(l2=5e-4)
