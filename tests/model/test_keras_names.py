"""Names of Keras's models and layers that scripts ask for: they are there, or tell what is."""

import numpy as np
import pytest

from yolo_jax import Input, K, Model, layers
from yolo_jax.layers import Add, BatchNormalization, Conv2D, Dense, Embedding, LayerNormalization
from yolo_jax.regularizers import l2


@pytest.fixture
def model() -> Model:
    a, b = Input((4,), name="a"), Input((4,), name="b")
    hidden = Dense(3, name="hidden", kernel_regularizer=l2(0.1))
    x = BatchNormalization(name="norm")(hidden(Add(name="sum")([a, b])))
    return Model([a, b], Dense(1, name="out", use_bias=False)(x))


def test_weights_that_are_trained_and_that_are_not(model: Model):
    assert list(model.trainable_weights) == [
        "hidden/kernel", "hidden/bias", "norm/gamma", "norm/beta", "out/kernel",
    ]  # fmt: skip
    assert list(model.non_trainable_weights) == ["norm/moving_mean", "norm/moving_variance"]
    model.get_layer("hidden").trainable = False
    assert list(model.trainable_weights) == ["norm/gamma", "norm/beta", "out/kernel"]
    assert set(model.non_trainable_weights) | set(model.trainable_weights) == set(model.weights)
    norm = model.get_layer("norm")
    assert list(norm.trainable_weights) == ["gamma", "beta"]
    norm.trainable = False
    assert list(norm.non_trainable_weights) == list(norm.weights)
    assert sum(K.count_params(v) for v in model.weights.values()) == model.count_params()
    with pytest.raises(TypeError, match=r"count_params takes .*found 'a'.*weights\.values"):
        K.count_params("a")


def test_a_model_within_has_its_layers_weights(model: Model):
    a = Input((4,))
    outer = Model(a, Dense(2, name="top")(model([a, a])))
    assert sum("kernel" in name for name in outer.trainable_weights) == 3
    model.trainable = False
    assert [name.rpartition("/")[2] for name in outer.trainable_weights] == ["kernel", "bias"]


def test_shapes_and_losses(model: Model):
    assert model.input_shape == [(None, 4), (None, 4)]
    assert model.output_shape == (None, 1)
    x = Input((4,))
    assert Model(x, [Dense(2)(x), Dense(3)(x)]).output_shape == [(None, 2), (None, 3)]
    assert Model(x, Dense(2)(x)).input_shape == (None, 4)
    kernel = model.get_layer("hidden").get_weights()[0]
    assert [float(loss) for loss in model.losses] == pytest.approx([0.1 * np.square(kernel).sum()])
    assert Model(x, Dense(2)(x)).losses == []


def test_every_one_of_a_models_layers_answers(model: Model):
    """Inputs too, which stand among them for themselves."""
    for layer in model.layers:
        assert layer.output_shape[0] is None
        assert layer.input is not None and layer.output is not None
        assert layer.count_params() == sum(v.shape != () and v.size for v in layer.weights.values())
        assert set(layer.trainable_weights) <= set(layer.weights)
    first = model.layers[0]
    assert (first.input_shape, first.trainable) == ((None, 4), False)
    assert first.output is first.input is model.inputs[0]


@pytest.mark.parametrize(
    ("layer", "shape", "names"),
    [
        (Dense(2), (4,), ["kernel", "bias"]),
        (Conv2D(2, 3), (8, 8, 3), ["kernel", "bias"]),
        (BatchNormalization(), (4,), ["gamma", "beta", "moving_mean", "moving_variance"]),
        (LayerNormalization(), (4,), ["gamma", "beta"]),
        (Embedding(5, 2), (4,), ["embeddings"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_weights_are_attributes(layer, shape, names):
    with pytest.raises(AttributeError):
        getattr(layer, names[0])
    layer(Input(shape))
    assert [getattr(layer, name) is layer.weights[name] for name in names] == [True] * len(names)


def test_a_weight_that_is_left_out_is_none():
    layer = Dense(2, use_bias=False)
    with pytest.raises(AttributeError, match="has no kernel before it is called on a tensor"):
        _ = layer.kernel
    layer(Input((4,)))
    assert layer.bias is None


def test_a_graph_has_no_config(model: Model):
    for ask in (model.get_config, model.to_json, model.to_yaml, lambda: Model.from_config({})):
        with pytest.raises(NotImplementedError, match="no JSON: the code .*save_weights"):
            ask()
    with pytest.raises(NotImplementedError, match="layer 'out' has no config.*its Python code"):
        model.get_layer("out").get_config()


def test_layers_that_are_not_there():
    for name in ("LSTM", "Conv2DTranspose"):
        with pytest.raises(ImportError, match=f"no {name}. There are Activation, .*flax.nnx"):
            getattr(layers, name)
    with pytest.raises(ImportError, match=r"layers\.apply\(module, x\)"):
        from yolo_jax.layers import GRU  # noqa: F401
    assert not hasattr(layers, "nothing")
