"""Models as text and as pictures."""

from itertools import pairwise

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from yolo_jax import Input, K, Model
from yolo_jax.layers import Add, BatchNormalization, Concatenate, Dense, apply
from yolo_jax.model.plot import plot_model
from yolo_jax.model.plot_layout import laid_out


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
        ["shared", "(Dense)", "(None,", "3)", "15", "a[0][0]"],
        ["b[0][0]"],
        ["b[0][0]"],
        ["bn", "(BatchNormalization)", "(None,", "3)", "12", "shared[0][0]"],
        # Keras places an input by the call that reads it, a shared layer by its farthest call.
        ["b", "(InputLayer)", "(None,", "4)", "0"],
        ["inner", "(Model)", "(None,", "2)", "8", "bn[0][0]"],
        ["joined", "(Concatenate)", "(None,", "5)", "0", "inner[0][0]"],
        ["shared[1][0]"],
        ["out", "(Dense)", "(None,", "1)", "6", "joined[0][0]"],
        ["sum", "(Add)", "(None,", "3)", "0", "bn[0][0]"],
        ["shared[2][0]"],
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


def test_a_chain_of_layers_has_three_columns():
    """As Keras 2.3.1 prints it, but for spaces at the ends of lines."""
    x = Input((4,), name="x")
    lines = []
    chain = Model(x, Dense(2, name="out")(Dense(3, name="h")(x)), name="chain")
    chain.summary(print_fn=lines.append)
    assert lines == [
        'Model: "chain"',
        "_" * 65,
        "Layer (type)                 Output Shape              Param #",
        "=" * 65,
        "x (InputLayer)               (None, 4)                 0",
        "_" * 65,
        "h (Dense)                    (None, 3)                 15",
        "_" * 65,
        "out (Dense)                  (None, 2)                 8",
        "=" * 65,
        "Total params: 23",
        "Trainable params: 23",
        "Non-trainable params: 0",
        "_" * 65,
    ]


def test_a_layer_called_twice_makes_no_chain():
    x = Input((4,), name="x")
    shared = Dense(4, name="shared")
    lines = []
    Model(x, shared(shared(x))).summary(print_fn=lines.append)
    assert [line.split()[-1] for line in lines[6:8]] == ["x[0][0]", "shared[0][0]"]


def test_outputs_of_different_shapes_are_multiple():
    a, b = Input((4, 3), name="a"), Input((3,), name="b")
    shared = Dense(2, name="shared")
    lines = []
    Model([a, b], [shared(a), shared(b)]).summary(print_fn=lines.append)
    assert any(line.split()[:3] == ["shared", "(Dense)", "multiple"] for line in lines)


def test_columns_grow_or_cut():
    x = Input((4,), name="x")
    named = Model(x, Dense(2, name="a_name_that_is_longer_than_the_column_is_wide")(x))
    lines = []
    named.summary(print_fn=lines.append)
    assert any("a_name_that_is_longer_than_the_column_is_wide (Dense)" in line for line in lines)
    for positions in ((0.3, 0.6, 1.0), (18, 36, 60)):
        lines.clear()
        named.summary(60, positions, lines.append)
        assert max(map(len, lines)) == 60
        assert any(line.startswith("a_name_that_is_lo (None, 2)") for line in lines)
    with pytest.raises(ValueError, match=r"has 3 columns \(Layer.* found 4 positions"):
        named.summary(60, (0.3, 0.6, 0.8, 1.0))


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


def overlaps(layout, widths, lane):
    """Yields the neighbours in a row that do not leave each other room."""
    for row in layout.rows:
        for one, other in pairwise(sorted(row, key=layout.x.__getitem__)):
            room = layout.x[other] - layout.x[one]
            if room < (widths.get(one, lane) + widths.get(other, lane)) / 2 - 1e-9:
                yield one, other


def test_arrows_have_lanes_past_the_boxes_between():
    """A graph as YOLOv3-tiny's: a long branch beside a chain, and two outputs."""
    names = ["image", *(f"body{i}" for i in range(9)), "coarse", "up", "cat", "fine"]
    chain = list(pairwise(names[:11]))
    edges = [*chain, ("body8", "up"), ("up", "cat"), ("body3", "cat"), ("cat", "fine")]
    widths = {name: 1 + len(name) / 4 for name in names}
    layout = laid_out(widths, edges, lane=0.3)
    assert not list(overlaps(layout, widths, 0.3))
    assert [layout.row[name] for name in names] == [*range(10), 10, 10, 11, 12]
    for (start, end), lanes in layout.lanes.items():
        rows = [layout.row[name] for name in lanes]
        assert rows == list(range(layout.row[start] + 1, layout.row[end]))
    assert len(layout.lanes["body3", "cat"]) == 6
    assert min(layout.x[name] - widths[name] / 2 for name in names) >= 0
    assert max(layout.x[name] + widths[name] / 2 for name in names) <= layout.width
    # A chain with nothing beside it stands upright, more or less.
    assert np.ptp([layout.x[name] for name in names[:3]]) < 0.3


def test_a_layer_that_reads_its_own_later_output_is_placed():
    """Drawn once, a shared layer makes a circle."""
    edges = [("x", "shared"), ("shared", "between"), ("between", "shared"), ("shared", "out")]
    widths = dict.fromkeys(("x", "shared", "between", "out"), 1.0)
    layout = laid_out(widths, edges, lane=0.3)
    assert not list(overlaps(layout, widths, 0.3))
    assert [layout.row[name] for name in widths] == [0, 1, 2, 2]


def test_an_input_stands_above_what_reads_it():
    edges = [("x", "a"), ("a", "b"), ("b", "c"), ("late", "c")]
    layout = laid_out(dict.fromkeys(("x", "late", "a", "b", "c"), 1.0), edges, lane=0.3)
    assert layout.row["late"] == layout.row["c"] - 1


def test_a_picture_of_an_unknown_kind_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="Format 'docx' is not supported"):
        plot_model(model, tmp_path / "model.docx")
