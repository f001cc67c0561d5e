import warnings

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from yolo_jax import Input, K, Model
from yolo_jax.layers import BatchNormalization, Dense, apply


def make_model(units: int = 3, name: str = "out") -> Model:
    x = Input((4,), name="x")
    h = BatchNormalization(name="bn")(Dense(5, name="h")(x))
    return Model(x, Dense(units, name=name)(h))


@pytest.mark.parametrize("name", ["weights.h5", "weights.safetensors"])
def test_round_trip_in_order_and_by_name(tmp_path, name):
    model, other = make_model(), make_model()
    model.save_weights(tmp_path / "folder" / name)
    for by_name in (False, True):
        other.set_weights([np.zeros_like(array) for array in other.get_weights()])
        other.load_weights(tmp_path / "folder" / name, by_name=by_name)
        for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(model.predict(x), other.predict(x))


def test_the_layout_is_keras_own(tmp_path):
    make_model().save_weights(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5") as file:
        assert [n.decode() for n in file.attrs["layer_names"]] == ["h", "bn", "out"]
        names = [n.decode() for n in file["bn"].attrs["weight_names"]]
        assert names == [
            "bn/gamma:0",
            "bn/beta:0",
            "bn/moving_mean:0",
            "bn/moving_variance:0",
        ]
        assert file["h"]["h/kernel:0"].shape == (4, 5)


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    path = tmp_path / "w.h5"
    make_model(units=7).save_weights(path)
    model = make_model()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"layer 'out' has weights of shapes .*\(5, 3\).*\(5, 7\)"):
        model.load_weights(path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.warns(UserWarning, match="keeps its own"):
        model.load_weights(path, by_name=True, skip_mismatch=True)
    np.testing.assert_array_equal(model.get_layer("out").get_weights()[0], before[-2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_model(name="another").load_weights(path, by_name=True)


def test_what_is_no_weights_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights file"):
        make_model().load_weights(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(ValueError, match="not an HDF5 file"):
        make_model().load_weights(tmp_path / "text.h5")


class Scale(nnx.Module):
    """A module of flax's kind, which knows nothing of Keras."""

    def __init__(self) -> None:
        self.inner = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        self.factor = nnx.Param(jnp.full(2, 2.0))

    def __call__(self, x):
        return self.inner(x) * self.factor[...]


def make_nested() -> Model:
    x = Input((4,), name="x")
    inner_x = Input((4,), name="inner_x")
    h = BatchNormalization(name="bn")(Dense(3, name="h")(inner_x))
    inner = Model(inner_x, Dense(3, name="g")(h), name="inner")
    return Model(x, apply(Scale(), inner(x), name="scale"))


@pytest.mark.parametrize("name", ["weights.h5", "weights.safetensors"])
@pytest.mark.parametrize("by_name", [False, True])
def test_models_within_and_other_modules_have_their_weights_too(tmp_path, name, by_name):
    model, other = make_nested(), make_nested()
    assert len(model.get_weights()) == 8 + 3
    model.set_weights([array + 1 for array in model.get_weights()])
    model.save_weights(tmp_path / name)
    other.load_weights(tmp_path / name, by_name=by_name)
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(model.predict(x), other.predict(x))


def test_a_model_within_is_one_group_as_keras_has_it(tmp_path):
    make_nested().save_weights(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5") as file:
        assert [n.decode() for n in file.attrs["layer_names"]] == ["inner", "scale"]
        names = [n.decode() for n in file["inner"].attrs["weight_names"]]
        assert names == [
            "h/kernel:0", "h/bias:0", "bn/gamma:0", "bn/beta:0", "g/kernel:0", "g/bias:0",
            "bn/moving_mean:0", "bn/moving_variance:0",
        ]  # fmt: skip
        assert file["inner"]["h/kernel:0"].shape == (4, 3)
    with pytest.raises(ValueError, match=r"weight 0 .* has the shape \(4, 3\); found .* \(1,\)"):
        make_nested().set_weights([np.ones(1)] * 11)


def test_freezing_a_model_within_freezes_its_layers():
    model = make_nested()
    inner = model.get_layer("inner")
    assert isinstance(inner, Model)
    assert inner.trainable
    inner.trainable = False
    assert not any(layer.trainable for layer in inner.layers[1:])
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
    after = model.get_weights()
    for old, new in zip(before[:8], after[:8], strict=True):
        np.testing.assert_array_equal(old, new)
    assert any((old != new).any() for old, new in zip(before[8:], after[8:], strict=True))


def test_a_model_built_again_has_other_names_and_is_told(tmp_path):
    def build():
        x = Input((4,))
        return Model(x, Dense(2)(x))

    K.clear_session()
    model, again = build(), build()
    model.save_weights(tmp_path / "w.h5")
    before = again.get_weights()
    with pytest.raises(ValueError, match=r"'dense_1'.*there, .*'dense_2'.*K.clear_session\(\)"):
        again.load_weights(tmp_path / "w.h5", by_name=True)
    np.testing.assert_array_equal(again.get_weights()[0], before[0])
    again.load_weights(tmp_path / "w.h5")
    K.clear_session()
    build().load_weights(tmp_path / "w.h5", by_name=True)


@pytest.mark.parametrize("name", ["w.h5", "w.safetensors"])
def test_a_damaged_file_is_named(tmp_path, name):
    path, model = tmp_path / name, make_model()
    model.save_weights(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no weights" * 20):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"{name} is (damaged, or no weights|not an HDF5) fil"
        ):
            model.load_weights(path)


def test_files_of_keras_3_say_what_they_are_and_its_older_kind_is_read(tmp_path, monkeypatch):
    # Keras reads these when it is imported.
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    import keras

    x = keras.Input((4,))
    theirs = keras.Model(x, keras.layers.Dense(3)(x))
    model = Model(x := Input((4,)), Dense(3)(x))
    theirs.save_weights(tmp_path / "m.weights.h5")
    theirs.save(tmp_path / "m.keras")
    for name in ("m.weights.h5", "m.keras"):
        with pytest.raises(ValueError, match=rf"{name} is a .* of Keras 3, .*save\('model\.h5'\)"):
            model.load_weights(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.save(tmp_path / "model.h5")
    model.load_weights(tmp_path / "model.h5")
    for mine, other in zip(model.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_file_that_is_there_stays_without_overwrite(tmp_path):
    path, model = tmp_path / "w.h5", make_model()
    model.save_weights(path, overwrite=False)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"w\.h5 is there already: overwrite=True"):
        make_model().save_weights(path, overwrite=False)
    assert path.read_bytes() == before
    make_model().save_weights(path)
    assert path.read_bytes() != before
    with pytest.raises(IsADirectoryError, match="writes a file; .* is a folder"):
        model.save_weights(tmp_path)
