import warnings

import h5py
import numpy as np
import pytest

from yolo_jax import Input, Model
from yolo_jax.layers import BatchNormalization, Dense


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
