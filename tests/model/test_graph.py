"""Graphs: inputs, shapes, names, order, masks, Lambda, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from yolo_jax import Model
from yolo_jax.layers import (
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Lambda,
    Layer,
    Masking,
    MaxPooling2D,
    UpSampling2D,
    apply,
    set_random_seed,
)
from yolo_jax.model.graph import Graph, Node, SymbolicTensor, clear_session
from yolo_jax.model.graph.order import in_order, keras_order


def run(inputs, output, *values):
    return Graph(inputs, [output])([jnp.asarray(value) for value in values])[0]


def notes(error):
    return str(error.value) + " ".join(getattr(error.value, "__notes__", []))


# Inputs and shapes


def test_inputs_are_numbered_and_a_cleared_session_starts_again():
    clear_session()
    assert [Input((3,)).name, Input((3,)).name] == ["input_1", "input_2"]
    assert Dense(2).name == "dense_1"
    clear_session()
    assert Input((3,)).name == "input_1"
    assert Dense(2).name == "dense_1"


def test_an_input_knows_its_batch_size_dtype_and_tensor():
    array = np.zeros((5, 4, 3), np.uint8)
    held = Input(tensor=array)
    assert held.shape == (None, 4, 3) and held.dtype == jnp.uint8 and held.tensor is array
    assert Input((3,), batch_size=7).shape == (7, 3)
    assert Dense(2)(Input((3,), batch_size=7)).shape == (7, 2)
    assert Input((3,)).dtype == jnp.float32
    assert Input(tensor=np.zeros((5, 3))).dtype == jnp.float32


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shape": 5}, TypeError, "tuple"),
        ({"shape": (2.5,)}, TypeError, "tuple"),
        ({"shape": (0, 3)}, ValueError, "at least 1"),
        ({}, ValueError, "needs `shape`"),
        ({"shape": (4,), "tensor": np.zeros((5, 3))}, ValueError, r"\(4,\).*\(5, 3\)"),
    ],
)
def test_an_input_refuses_what_is_no_shape(arguments, error, message):
    with pytest.raises(error, match=message):
        Input(**arguments)


def test_unknown_sizes_pass_through_and_the_graph_runs_at_any():
    x = Input((None, None, 3))
    y = Conv2D(4, 3, padding="same", use_bias=False)(x)
    y = BatchNormalization()(y)
    small = Conv2D(4, 3, strides=2, padding="same")(y)
    merged = Concatenate()([UpSampling2D(2)(MaxPooling2D(2)(y)), UpSampling2D(2)(small)])
    out = Add()([merged, merged])
    assert small.shape == (None, None, None, 4)
    assert out.shape == (None, None, None, 8)
    pooled = GlobalAveragePooling2D()(out)
    assert pooled.shape == (None, 8)
    graph = Graph([x], [out, pooled])
    for height, width in ((4, 8), (6, 2)):
        images, means = graph([jnp.ones((2, height, width, 3))])
        assert images.shape == (2, height, width, 8) and means.shape == (2, 8)


def test_a_whole_network_takes_unknown_sizes():
    class Halving(nnx.Module):
        def __call__(self, images):
            small = images[:, ::2, ::2]
            return images + jnp.repeat(jnp.repeat(small, 2, axis=1), 2, axis=2), small[:, ::2]

    same, quarter = apply(Halving(), Input((None, None, 3)))
    assert same.shape == quarter.shape == (None, None, None, 3)


def test_shapes_in_one_dimension_that_is_unknown():
    x = Input((None, 5))
    assert Dense(2)(x).shape == (None, None, 2)
    assert Lambda(lambda a: a.sum(axis=1))(x).shape == (None, 5)


# Layers and names


def test_a_shared_layer_has_one_set_of_weights():
    a, b = Input((3,)), Input((3,))
    dense = Dense(2, name="shared")
    out = Add()([dense(a), dense(b)])
    graph = Graph([a, b], [out])
    assert len(jax.tree.leaves(nnx.state(graph, nnx.Param))) == 2
    left, right = np.eye(3)[:2], np.eye(3)[1:]
    kernel = dense.get_weights()[0]
    np.testing.assert_allclose(graph([left, right])[0], (left + right) @ kernel, rtol=1e-6)
    with pytest.raises(AttributeError, match="called 2 times"):
        _ = dense.input


def test_a_layer_knows_its_ends():
    a, b = Input((3,)), Input((4,))
    layer = Concatenate()
    with pytest.raises(AttributeError, match="called 0 times"):
        _ = layer.output_shape
    out = layer([a, b])
    assert layer.input == [a, b] and layer.output is out
    assert layer.input_shape == [(None, 3), (None, 4)] and layer.output_shape == (None, 7)
    assert Dense(2, input_shape=(9,)).input_shape == (None, 9)


def test_any_module_is_a_layer():
    x = Input((3,))
    linear = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    out = apply(linear, apply(nnx.Linear(3, 3, rngs=nnx.Rngs(1)), x))
    assert out.shape == (None, 2)
    assert sorted(Graph([x], [out]).layers) == ["linear", "linear_1"]
    with pytest.raises(ValueError, match="cannot be called 'other'"):
        apply(Dense(2, name="one"), x, name="other")


def test_a_custom_layer_makes_its_weights_in_build():
    class Scale(Layer):
        def build(self, input_shape):
            self.offset = self.add_weight(
                "offset", (1,), jax.nn.initializers.zeros, trainable=False
            )
            self.factor = self.add_weight("factor", input_shape[-1:], jax.nn.initializers.ones)

        def call(self, inputs):
            return inputs * self.factor[...] + self.offset[...]

    layer = Scale()
    x = Input((3,))
    graph = Graph([x], [layer(x)])
    layer.set_weights([np.arange(3.0), [10.0]])
    assert list(layer.weights) == ["factor", "offset"]
    np.testing.assert_array_equal(graph([jnp.ones((1, 3))])[0], [[10, 11, 12]])
    assert len(jax.tree.leaves(nnx.state(graph, nnx.Param))) == 1


def test_a_graph_splits_merges_and_runs_under_jit():
    x = Input((4, 4, 3))
    y = Flatten()(BatchNormalization()(Conv2D(2, 3)(x)))
    graph = Graph([x], [Dense(2)(y)])
    graphdef, params, rest = nnx.split(graph, nnx.Param, ...)
    values = jnp.ones((2, 4, 4, 3))
    out = jax.jit(lambda p, r, v: nnx.merge(graphdef, p, r, copy=True)([v])[0])(
        params, rest, values
    )
    np.testing.assert_allclose(out, graph([values])[0], rtol=1e-6)


def test_a_graph_is_a_layer_of_another():
    a = Input((3,), name="a")
    inner = Graph([a], [Dense(2, name="inner_dense")(Masking()(a))])
    x = Input((4, 3))
    out = apply(inner, x, name="inner")[0]
    assert out.shape == (None, 4, 2) and out.mask_shape == (None, 4)
    graph = Graph([x], [out])
    values = np.ones((2, 4, 3), np.float32)
    values[0, 1] = 0
    _, masks = graph.call([values])
    assert masks[0].tolist() == [[True, False, True, True], [True] * 4]


def test_layers_stand_in_keras_order():
    """The branch nearer to the output comes later, whatever was made first."""
    a, b = Input((3,), name="a"), Input((3,), name="b")
    short = Dense(2, name="short")(b)
    long = Dense(2, name="long_2")(Dense(2, name="long_1")(a))
    out = Add(name="sum")([long, short])
    end = Dense(1, name="end")(out)
    graph = Graph([a, b], [end, short])
    assert graph.layer_order == ("a", "long_1", "b", "long_2", "short", "sum", "end")
    assert Graph([a, b], [short]).layer_order == ("b", "short", "a")


def test_an_input_answers_as_a_layer_without_weights():
    x = Input((3,), name="x")
    model = Model(x, Dense(2, name="out")(x))
    assert [len(layer.get_weights()) for layer in model.layers] == [0, 2]
    for layer in model.layers:
        layer.set_weights(layer.get_weights())
    assert not model.layers[0].weights
    with pytest.raises(ValueError, match="input 'x' has no weights; found 1"):
        model.layers[0].set_weights([np.ones(3)])


def test_a_deep_graph_does_not_recurse():
    layer = Lambda(abs)
    x = y = Input((1,))
    for _ in range(3000):
        node = Node(layer, layer.name, y, None)
        y = node.outputs = SymbolicTensor((None, 1), jnp.float32, layer.name, node)
    units, met = in_order([x], [y])
    assert len(units) == 3001 and len(keras_order([x], units, met)) == 2


# What is refused


def test_two_layers_of_one_name_are_refused():
    x = Input((3,), name="x")
    twice = Dense(2, name="same")(Dense(2, name="same")(x))
    with pytest.raises(ValueError, match="'same'.*named alike"):
        Graph([x], [twice])
    with pytest.raises(ValueError, match="'x'"):
        Graph([x], [Dense(2, name="x")(x)])


def test_an_output_that_the_inputs_do_not_reach_is_refused():
    a, b = Input((3,), name="a"), Input((3,), name="elsewhere")
    with pytest.raises(ValueError, match="'elsewhere'.*'a'"):
        Graph([a], [Add()([a, b])])


def test_errors_name_the_layer_and_the_shapes():
    x = Input((5,), name="x")
    with pytest.raises(ValueError, match=r"'conv'.*ndim=4.*\(None, 5\)"):
        Conv2D(2, 3, name="conv")(x)
    dense = Dense(2, name="dense")
    dense(x)
    with pytest.raises(ValueError, match=r"'dense'.*5.*\(None, 6\)"):
        dense(Input((6,)))
    with pytest.raises(ValueError, match="'open'.*should be defined"):
        Dense(2, name="open")(Input((None,)))
    with pytest.raises(TypeError) as error:
        Lambda(lambda v: v @ jnp.ones((4, 4)), name="product")(x)
    assert "'product'" in notes(error) and "(None, 5)" in notes(error)
    with pytest.raises(TypeError, match="symbolic"):
        Add()([x, jnp.ones((2, 5))])
    with pytest.raises(TypeError, match="nothing"):
        Dense(2, nothing=1)


def test_a_layer_is_not_built_within_a_trace():
    with pytest.raises(RuntimeError, match="before it is traced"):
        jax.jit(Dense(2))(jnp.ones((1, 3)))


# Masks


def masked_input():
    values = np.ones((2, 3, 4), np.float32)
    values[0, 2] = values[1, 0] = 0
    return values, [[True, True, False], [False, True, True]]


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


def test_parameters_are_a_function_of_the_seed():
    def drawn(seed):
        set_random_seed(seed)
        layer, again = Dense(3), Dense(3)
        x = Input((4,))
        layer(x), again(x)
        return layer.get_weights()[0], again.get_weights()[0]

    first, second = drawn(1)
    assert (first != second).any()
    np.testing.assert_array_equal(first, drawn(1)[0])
    assert (first != drawn(2)[0]).any()


# Lambda


def test_lambda_takes_lists_and_arguments():
    a, b = Input((3,)), Input((3,))
    out = Lambda(lambda xs, scale: scale * (xs[0] - xs[1]), arguments={"scale": 2.0})([a, b])
    assert out.shape == (None, 3)
    np.testing.assert_array_equal(run([a, b], out, np.ones((2, 3)), np.zeros((2, 3))), 2.0)


def test_lambda_arguments_are_no_parameters():
    x = Input((3,))
    layer = Lambda(lambda v, shift: v + shift, arguments={"shift": jnp.arange(3.0)})
    graph = Graph([x], [layer(x)])
    assert not jax.tree.leaves(nnx.state(graph))
    np.testing.assert_array_equal(graph([jnp.zeros((1, 3))])[0], [[0, 1, 2]])


def test_a_declared_shape_is_believed():
    x = Input((3,))
    assert Lambda(lambda v: v.sum(), output_shape=(1,))(x).shape == (None, 1)
    assert Lambda(lambda v: v.sum(), output_shape=[7])(x).shape == (None, 7)
    assert Lambda(lambda v: v.sum())(x).shape == ()
    seen = []

    def full(shape):
        seen.append(shape)
        return (shape[0], 2 * shape[1])

    assert Lambda(lambda v: jnp.tile(v, (1, 2)), output_shape=full)(x).shape == (None, 6)
    assert seen == [(None, 3)]
    two = Lambda(lambda v: [v, v], output_shape=lambda shape: [shape, shape])(x)
    assert [tensor.shape for tensor in two] == [(None, 3), (None, 3)]
    with pytest.raises(ValueError, match="'bad'.*must return"):
        Lambda(lambda v: v, output_shape=lambda shape: 3, name="bad")(x)


def test_a_declared_shape_spares_a_function_sizes_that_are_unknown():
    """As a loss in the model does: heads of unknown size against targets of a known one."""
    x, y = Input((None, 3)), Input((4, 3))
    loss = Lambda(lambda xs: jnp.square(xs[0] - xs[1]).sum(), output_shape=(1,))([x, y])
    assert loss.shape == (None, 1) and loss.dtype == jnp.float32
    assert float(run([x, y], loss, np.ones((2, 4, 3)), np.zeros((2, 4, 3)))) == 24


def test_lambda_drops_replaces_or_computes_the_mask():
    values, expected = masked_input()
    x = Input((3, 4))
    masked = Masking()(x)
    outputs = [
        Lambda(lambda v: v)(masked),
        Lambda(lambda v: v, mask=lambda inputs, mask: ~mask)(masked),
        Lambda(lambda v: v, mask=np.array([[True, False, True]]))(x),
    ]
    _, masks = Graph([x], outputs).call([values])
    assert masks[0] is None
    assert masks[1].tolist() == (~np.array(expected)).tolist()
    assert masks[2].tolist() == [[True, False, True]] * 2


def test_lambda_gives_the_mask_to_a_function_that_names_it():
    values, expected = masked_input()
    x = Input((3, 4))
    counted = Lambda(lambda v, mask: mask.astype(jnp.float32))(Masking()(x))
    assert counted.shape == (None, 3)
    np.testing.assert_array_equal(run([x], counted, values), np.array(expected, np.float32))
    unmasked = Lambda(lambda v, mask=None: v * (mask is None))(x)
    np.testing.assert_array_equal(run([x], unmasked, values), values)
    # Keywords in general are no mask.
    np.testing.assert_array_equal(run([x], Lambda(lambda v, **mask: v)(x), values), values)


def test_lambda_takes_the_options_of_layers():
    layer = Lambda(abs, name="size", trainable=False, dtype="float32", input_shape=(3,))
    assert (layer.name, layer.trainable, layer.dtype) == ("size", False, jnp.float32)
    assert layer.input_shape == (None, 3)
    np.testing.assert_array_equal(layer(jnp.array([[-1.0]])), [[1.0]])


def test_lambda_refuses_what_is_no_function_or_shape():
    with pytest.raises(TypeError, match="takes a function"):
        Lambda(3)
    with pytest.raises(TypeError, match="must be a list, a tuple, or a function"):
        Lambda(abs, output_shape=4)
