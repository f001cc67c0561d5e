import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from yolo_jax.core.precision import Precision
from yolo_jax.networks.normalisation import BatchNorm, masked_moments


def test_batch_norm_in_training_and_in_use():
    rng = np.random.default_rng(3)
    inputs = rng.normal(2, 3, (4, 5, 6, 7)).astype(np.float32)
    norm = BatchNorm(7, precision=Precision())
    outputs = norm(jnp.asarray(inputs))
    mean, var = inputs.mean((0, 1, 2)), inputs.var((0, 1, 2))
    np.testing.assert_allclose(outputs, (inputs - mean) / np.sqrt(var), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.01 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.99 + 0.01 * var, rtol=1e-6)

    norm.eval()
    moved = np.array(norm.mean[...]), np.array(norm.var[...])
    outputs = norm(jnp.asarray(inputs))
    np.testing.assert_allclose(
        outputs, (inputs - moved[0]) / np.sqrt(moved[1]), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(norm.mean[...], moved[0])
    np.testing.assert_array_equal(norm.var[...], moved[1])


MASKS = {
    "none": None,
    "rows": np.array([1, 0, 1, 1], bool).reshape(4, 1, 1),
    "rows and places": np.random.default_rng(6).integers(0, 2, (4, 6, 1)).astype(bool),
    "nothing": np.zeros((4, 1, 1), bool),
}


@pytest.mark.parametrize("feature", [-1, 2, 1])
@pytest.mark.parametrize("case", MASKS)
def test_moments_over_what_a_mask_keeps(case, feature):
    values = np.random.default_rng(5).normal(2, 3, (4, 6, 3)).astype(np.float32)
    mask = MASKS[case]
    if feature == 1:
        values = values.swapaxes(1, 2)
        mask = None if mask is None else mask.swapaxes(1, 2)
    kept = np.ones((4, 6), bool) if mask is None else np.broadcast_to(mask.reshape(4, -1), (4, 6))
    rows = np.moveaxis(values, feature, -1)[kept]
    # What is left out may hold anything.
    left_out = np.broadcast_to(False if mask is None else ~mask, values.shape)
    values = np.where(left_out, np.inf, values)
    mean, var, count = masked_moments(values, mask, feature=feature)
    assert count == len(rows)
    assert mean.shape == var.shape == (3,)
    assert mean.dtype == var.dtype == count.dtype == jnp.float32
    expected = (rows.mean(0), rows.var(0)) if len(rows) else (np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(mean, expected[0], rtol=1e-5)
    np.testing.assert_allclose(var, expected[1], rtol=1e-5)
    if len(rows):
        gradient = jax.grad(
            lambda x: sum(a.sum() for a in masked_moments(x, mask, feature=feature))
        )
        found = np.asarray(gradient(jnp.asarray(values)))
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found[left_out], 0)


def test_moments_over_devices_count_each_by_its_rows():
    values = np.random.default_rng(7).normal(2, 3, (2, 3, 5)).astype(np.float32)
    mask = np.array([[True, True, True], [True, False, False]])[..., None]
    found = jax.vmap(lambda v, m: masked_moments(v, m, axis_name="batch"), axis_name="batch")(
        values, mask
    )
    rows = values[mask[..., 0]]
    for row in range(2):
        np.testing.assert_allclose(found[0][row], rows.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found[1][row], rows.var(0), rtol=1e-5)
        assert found[2][row] == 4


def test_moments_of_low_precision_are_summed_in_float32():
    values = jnp.full((4, 64, 64, 2), 1.0, jnp.bfloat16)
    mean, var, count = masked_moments(values)
    np.testing.assert_array_equal(mean, 1)
    np.testing.assert_array_equal(var, 0)
    assert count == 4 * 64 * 64


def test_masked_rows_leave_no_trace():
    rng = np.random.default_rng(4)
    rows = rng.normal(1, 2, (3, 4, 4, 5)).astype(np.float32)
    padded = np.full((5, 4, 4, 5), 1e3, np.float32)
    kept = np.array([True, False, True, True, False])
    padded[kept] = rows
    plain, masked = (BatchNorm(5, precision=Precision()) for _ in range(2))
    expected = plain(jnp.asarray(rows))
    found = masked(jnp.asarray(padded), jnp.asarray(kept))
    np.testing.assert_allclose(found[kept], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(masked.mean[...], plain.mean[...], rtol=1e-6)
    np.testing.assert_allclose(masked.var[...], plain.var[...], rtol=1e-6)


def test_a_batch_of_padding_alone_moves_nothing():
    norm = BatchNorm(2, precision=Precision())
    outputs = norm(jnp.full((2, 3, 3, 2), 7.0), jnp.zeros(2, bool))
    assert np.isfinite(outputs).all()
    np.testing.assert_array_equal(norm.mean[...], 0)
    np.testing.assert_array_equal(norm.var[...], 1)


def test_gradient_through_a_constant_channel_is_finite():
    norm = BatchNorm(2, precision=Precision())
    inputs = jnp.ones((2, 3, 3, 2))
    gradient = jax.grad(lambda x: jnp.square(BatchNorm.__call__(nnx.clone(norm), x)).sum())(inputs)
    assert np.isfinite(gradient).all()


def plain_batch_norm(inputs, scale, bias, row_mask, slope):
    """The same without a gradient rule of its own, nor a moving mean."""
    mask = None if row_mask is None else row_mask[:, None, None, None]
    mean, var, _ = masked_moments(inputs, mask)
    outputs = (inputs - mean) / (jnp.sqrt(var) + 1e-6) * scale + bias
    return jnp.where(outputs > 0, outputs, slope * outputs)


@pytest.mark.parametrize("slope", [1.0, 0.1])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_rule_is_autodiffs(masked, slope):
    rng = np.random.default_rng(8)
    inputs = jnp.asarray(rng.normal(3, 2, (4, 5, 6, 7)), jnp.float32)
    scale, bias = (jnp.asarray(rng.normal(1, 0.5, 7), jnp.float32) for _ in range(2))
    row_mask = jnp.asarray([True, False, True, True]) if masked else None
    weights = jnp.asarray(rng.normal(size=inputs.shape), jnp.float32)
    if masked:
        weights = weights * row_mask[:, None, None, None]
    norm = BatchNorm(7, precision=Precision())
    graph, state = nnx.split(norm)

    def ours(inputs, scale, bias):
        norm = nnx.merge(graph, state, copy=True)
        norm.scale[...], norm.bias[...] = scale, bias
        return (weights * norm(inputs, row_mask, slope=slope)).sum()

    def plain(inputs, scale, bias):
        return (weights * plain_batch_norm(inputs, scale, bias, row_mask, slope)).sum()

    arguments = inputs, scale, bias
    found = jax.value_and_grad(ours, (0, 1, 2))(*arguments)
    expected = jax.value_and_grad(plain, (0, 1, 2))(*arguments)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-4)
    for ours, plain in zip(found[1], expected[1], strict=True):
        assert np.abs(ours - plain).max() <= 1e-5 * np.abs(plain).max()


def test_one_pass_loses_nothing_once_the_moving_mean_is_near():
    """Sums of squares around 0 would lose the variance of values at 10,000 ± 1."""
    values = np.random.default_rng(9).normal(1e4, 1, (4, 16, 16, 3)).astype(np.float32)
    norm = BatchNorm(3, precision=Precision())
    norm.mean[...] = jnp.full(3, 9_990.0)
    norm.var[...] = jnp.zeros(3)
    norm(jnp.asarray(values))
    exact = values.astype(np.float64).var((0, 1, 2))
    np.testing.assert_allclose(norm.var[...], 0.01 * exact, rtol=1e-4)
