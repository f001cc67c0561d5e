"""Models as text and as pictures."""

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from yolo_jax import Input, K, Model
from yolo_jax.layers import Add, BatchNormalization, Concatenate, Dense, apply
from yolo_jax.model.plot import plot_model


@pytest.fixture
def model():
    K.clear_session()
    a, b = Input((4,), name="a"), Input((4,), name="b")
    shared = Dense(3, name="shared")
    h = BatchNormalization(name="bn")(shared(a))
    inner_x = Input((3,), name="inner_x")
    inner = Model(inner_x, Dense(2, name="g")(inner_x), name="inner")
    joined = Concatenate(name="joined")([inner(h), shared(b)])
    return Model([a, b], [Dense(1, name="out")(joined), Add(name="sum")([h, shared(b)])], name="m")


def test_summary_has_keras_form(model):
    lines = []
    model.summary(print_fn=lines.append)
    assert lines[0] == 'Model: "m"'
    assert lines[1] == "_" * 98
    assert lines[2] == (
        "Layer (type)                    Output Shape         Param #     Connected to"
    )
    assert lines[3] == lines[-5] == "=" * 98
    body = [line.split() for line in lines[4:-5] if not line.startswith("_")]
    assert body == [
        ["a", "(InputLayer)", "(None,", "4)", "0"],
        ["shared", "(Dense)", "(None,", "3)", "15", "a"],
        ["b"],
        ["b"],
        ["bn", "(BatchNormalization)", "(None,", "3)", "12", "shared"],
        # Keras places an input by the call that reads it, a shared layer by its farthest call.
        ["b", "(InputLayer)", "(None,", "4)", "0"],
        ["inner", "(Model)", "(None,", "2)", "8", "bn"],
        ["joined", "(Concatenate)", "(None,", "5)", "0", "inner"],
        ["shared"],
        ["out", "(Dense)", "(None,", "1)", "6", "joined"],
        ["sum", "(Add)", "(None,", "3)", "0", "bn"],
        ["shared"],
    ]
    # A shared layer counts once; moving statistics are not trained.
    assert lines[-4:] == [
        "Total params: 41", "Trainable params: 35", "Non-trainable params: 6", "_" * 98,
    ]  # fmt: skip
    assert model.count_params() == 41


def test_frozen_layers_count_as_not_trainable(model, capsys):
    model.get_layer("shared").trainable = False
    model.get_layer("inner").trainable = False
    model.summary()
    assert "Trainable params: 12\nNon-trainable params: 29" in capsys.readouterr().out


def test_columns_grow_or_cut(model):
    x = Input((4,), name="x")
    named = Model(x, Dense(2, name="a_name_that_is_longer_than_the_column_is_wide")(x))
    lines = []
    named.summary(print_fn=lines.append)
    assert any("a_name_that_is_longer_than_the_column_is_wide (Dense)" in line for line in lines)
    lines.clear()
    named.summary(60, (0.3, 0.6, 0.8, 1.0), lines.append)
    assert max(map(len, lines)) == 60
    assert any(line.startswith("a_name_that_is_lo (None, 2)") for line in lines)


def test_a_module_of_another_kind_is_counted():
    x = Input((4,), name="x")
    model = Model(x, apply(nnx.Linear(4, 2, rngs=nnx.Rngs(0)), x, name="linear"))
    lines = []
    model.summary(print_fn=lines.append)
    assert any(line.split()[:2] == ["linear", "(Linear)"] for line in lines)
    assert "Trainable params: 10" in lines


@pytest.mark.parametrize("show_shapes", [False, True])
def test_a_picture_shows_every_layer(model, tmp_path, show_shapes):
    path = tmp_path / "made" / "model.svg"
    plot_model(model, path, show_shapes=show_shapes)
    drawn = path.read_text()
    for name in ("a: Input", "shared: Dense", "inner: Model", "sum: Add"):
        assert f"<!-- {name}" in drawn, name
    assert ("(None, 5)" in drawn) == show_shapes
    plot_model(model, tmp_path / "model.png")
    pixels = np.asarray(Image.open(tmp_path / "model.png").convert("L"))
    assert (pixels < 128).mean() > 0.002
