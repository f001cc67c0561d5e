"""`Lambda`: arguments, declared shapes, masks, options, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from graph_runs import masked_input, run

from yolo_jax import Model
from yolo_jax.layers import Input, Lambda, Masking
from yolo_jax.model.graph import Graph


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
    np.testing.assert_array_equal(layer(jnp.array([[-1.0, 2.0, -3.0]])), [[1.0, 2.0, 3.0]])


def test_lambda_refuses_what_is_no_function_or_shape():
    with pytest.raises(TypeError, match="takes a function"):
        Lambda(3)
    with pytest.raises(TypeError, match="must be a list, a tuple, or a function"):
        Lambda(abs, output_shape=4)


def test_an_array_mask_without_rows_is_of_the_steps():
    """As Keras broadcasts it over the rows; the first axis of any other is of rows."""
    x, row = Input((3, 2)), Input((4,))
    marks = [True, False, True]
    for mask in (marks, np.array([marks]), jnp.array(marks), [1, 0, 1]):
        tensor = Lambda(lambda v: v, mask=mask)(x)
        assert tensor.mask_shape == (None, 3)
        _, masks = Graph([x], [tensor]).call([jnp.ones((5, 3, 2))])
        np.testing.assert_array_equal(masks[0], [marks] * 5)
    assert Lambda(lambda v: v, mask=[True])(row).mask_shape == (None,)
    of_three = Input((4,), batch_size=3)
    _, masks = Graph([of_three], [Lambda(lambda v: v, mask=marks)(of_three)]).call(
        [jnp.ones((3, 4))]
    )
    np.testing.assert_array_equal(masks[0], marks)
    for mask, tensor in ((marks, row), (np.ones((5, 3)), x)):
        with pytest.raises(ValueError, match="first axis of its mask, of shape .* is of rows: 1"):
            Lambda(lambda v: v, mask=mask)(tensor)


def test_an_array_mask_of_steps_leaves_them_out_of_the_loss():
    x = Input((3, 1))
    model = Model(x, Lambda(lambda v: v, mask=[True, False, True])(x))
    model.compile("sgd", "mse")
    values = np.array([[[1.0], [100.0], [2.0]]] * 4, np.float32)
    assert model.evaluate(values, np.zeros_like(values)) == pytest.approx(2.5)
