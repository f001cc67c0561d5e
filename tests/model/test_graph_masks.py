"""Masks and rows of padding on their way through graphs."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from graph_runs import masked_input

from yolo_jax.layers import (
    Add,
    BatchNormalization,
    Concatenate,
    Dense,
    Dropout,
    Flatten,
    Input,
    Masking,
)
from yolo_jax.model.graph import Graph


def test_masks_pass_through_layers_that_keep_the_steps():
    values, expected = masked_input()
    x = Input((3, 4))
    kept = Dropout(0.5)(Dense(2, activation="relu")(Masking()(x)))
    flat = Flatten()(kept)
    assert kept.mask_shape == (None, 3) and flat.mask_shape is None
    _, masks = Graph([x], [kept, flat]).call([values])
    assert masks[0].tolist() == expected and masks[1] is None


def test_merging_layers_combine_masks():
    values, expected = masked_input()
    x = Input((3, 4))
    masked, other = Masking()(x), Masking(mask_value=1.0)(x)
    outputs = [
        Add()([masked, other]),
        Add()([masked, x]),
        Add()([x, x]),
        Concatenate()([masked, x]),
        Concatenate(axis=1)([masked, x]),
    ]
    _, masks = Graph([x], outputs).call([values])
    assert not masks[0].any()
    assert masks[1].tolist() == expected
    assert masks[2] is None
    assert masks[3].tolist() == expected
    assert masks[4].tolist() == [row + [True] * 3 for row in expected]


# Keys and rows


def test_dropout_depends_on_each_rows_key_alone():
    x = Input((50,))
    graph = Graph([x], [Dropout(0.4)(x), Dropout(0.4)(x)])
    values = jnp.ones((8, 50))
    keys = jax.random.split(jax.random.key(3), 8)
    (whole, other), _ = graph.call([values], row_keys=keys)
    parts = [graph.call([values[i : i + 2]], row_keys=keys[i : i + 2])[0][0] for i in (0, 2, 4, 6)]
    np.testing.assert_array_equal(whole, jnp.concatenate(parts))
    assert (whole != other).any() and (whole[0] != whole[1]).any()
    np.testing.assert_allclose(np.unique(whole), [0, 1 / 0.6], rtol=1e-6)
    assert abs(float((whole == 0).mean()) - 0.4) < 0.1
    np.testing.assert_array_equal(graph([values])[0], values)


def test_rows_that_fill_the_batch_leave_batch_normalisation_alone():
    x = Input((2, 2, 3))
    layer = BatchNormalization()
    graph = Graph([x], [layer(x)])
    graph.train()
    generator = np.random.default_rng(0)
    values = generator.normal(size=(5, 2, 2, 3)).astype(np.float32)
    padded = np.concatenate([values, np.full((3, 2, 2, 3), np.inf, np.float32)])
    mask = jnp.arange(8) < 5
    out = graph([padded], mask)[0]
    mean, var = values.mean((0, 1, 2)), values.var((0, 1, 2))
    np.testing.assert_allclose(out[:5], (values - mean) / np.sqrt(var + 1e-3), atol=1e-5)
    _, _, moving_mean, moving_var = layer.get_weights()
    np.testing.assert_allclose(moving_mean, 0.01 * mean, atol=1e-6)
    np.testing.assert_allclose(moving_var, 0.99 + 0.01 * var, atol=1e-6)
    graph([padded], jnp.zeros(8, bool))
    np.testing.assert_allclose(layer.get_weights()[2], 0.01 * mean, atol=1e-6)


def test_batch_normalisation_over_devices_counts_rows():
    """Shards with 2, 1 and no real rows give the moments of all three rows."""
    x = Input((3,))
    layer = BatchNormalization()
    layer(x)
    layer.norm.use_running_average, layer.norm.axis_name = False, "batch"
    graphdef, state = nnx.split(layer.norm)
    values = np.random.default_rng(0).normal(size=(3, 2, 3)).astype(np.float32)
    mask = np.array([[True, True], [True, False], [False, False]])

    def shard(values, mask):
        norm = nnx.merge(graphdef, state, copy=True)
        return norm(values, mask=mask[:, None]), norm.mean[...], norm.var[...]

    out, mean, var = jax.vmap(shard, axis_name="batch")(values, mask)
    kept = values[mask]
    expected = (kept - kept.mean(0)) / np.sqrt(kept.var(0) + 1e-3)
    np.testing.assert_allclose(out[mask], expected, atol=1e-5)
    np.testing.assert_allclose(mean, np.tile(0.01 * kept.mean(0), (3, 1)), atol=1e-6)
    np.testing.assert_allclose(var, np.tile(0.99 + 0.01 * kept.var(0), (3, 1)), atol=1e-6)


def test_a_batch_of_padding_alone_gives_finite_numbers():
    layer = BatchNormalization()
    layer(Input((3,)))
    layer.train()
    out = layer(jnp.ones((2, 3)), row_mask=jnp.zeros(2, bool))
    np.testing.assert_allclose(out, 1 / np.sqrt(1 + 1e-3), rtol=1e-6)
