"""Graphs: inputs, shapes, names, order, layers within layers, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from graph_runs import notes

from yolo_jax import Model
from yolo_jax.layers import (
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
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
