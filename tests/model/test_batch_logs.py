"""A batch's logs are a mapping that callbacks may change; `params` has what Keras 2.3's had."""

import jax
import numpy as np
import pytest

from yolo_jax import Input, Model
from yolo_jax.callbacks import Callback, LambdaCallback
from yolo_jax.layers import Dense
from yolo_jax.model.evaluating import BatchLogs

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = X[:, :1]


def compiled() -> Model:
    x = Input((3,), name="x")
    model = Model(x, Dense(1)(x))
    model.compile("sgd", "mse", metrics=["mae"], devices=jax.devices()[:1])
    return model


@pytest.fixture
def fetched(monkeypatch):
    """Lists what is fetched from the device."""
    found, device_get = [], jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: found.append(tree) or device_get(tree))
    return found


def logs_of(fetched) -> BatchLogs:
    sums = {"loss": jax.numpy.ones(()), "mae": jax.numpy.zeros(())}
    return BatchLogs(3, 5, sums, ("loss", "mae"), lambda s: {k: float(v) for k, v in s.items()})


def test_they_change_and_are_fetched_when_read(fetched):
    logs = logs_of(fetched)
    assert (logs["batch"], logs["size"], logs.get("nope", 0)) == (3, 5, 0)
    assert list(logs) == ["loss", "mae"]
    assert "loss" in logs and "batch" in logs
    logs["mine"] = 7
    logs.update(other=8)
    logs["mae"] = 0.5
    assert (logs["mae"], logs.pop("other")) == (0.5, 8)
    assert not fetched
    assert logs["loss"] == 1.0
    assert len(fetched) == 1
    copied = logs.copy()
    assert type(copied) is dict
    assert copied == {"loss": 1.0, "mae": 0.5, "mine": 7} == dict(logs)
    del logs["mine"]
    assert repr(logs) == "{'loss': 1.0, 'mae': 0.5}"
    with pytest.raises(KeyError, match="'nope': a batch's logs have loss, mae, batch and size"):
        logs["nope"]


def test_a_copy_fetches_at_once(fetched):
    assert logs_of(fetched).copy() == {"loss": 1.0, "mae": 0.0}
    assert len(fetched) == 1


def test_what_a_callback_sets_those_behind_it_see():
    seen = []
    first = LambdaCallback(on_batch_end=lambda batch, logs: logs.update(twice=2 * logs["batch"]))
    second = LambdaCallback(on_batch_end=lambda batch, logs: seen.append((batch, logs["twice"])))
    tested = LambdaCallback(on_test_batch_end=lambda batch, logs: seen.append(logs["batch"]))
    compiled().fit(
        X, Y, batch_size=4, verbose=0, callbacks=[first, second, tested], validation_data=(X, Y)
    )
    assert seen == [(0, 0), (1, 2), (2, 4), 0, 1, 2]


class Asker(Callback):
    """Asks as callbacks written for Keras 2.3 do."""

    def on_train_begin(self, logs=None):
        names = ("samples", "batch_size", "metrics", "do_validation", "epochs", "steps")
        self.found = {name: self.params.get(name) for name in names}

    on_test_begin = on_train_begin


def test_params_are_those_of_keras_2_3_too():
    asker, names = Asker(), ["loss", "mae", "val_loss", "val_mae"]
    compiled().fit(X, Y, batch_size=4, verbose=0, callbacks=[asker], validation_data=(X[:4], Y[:4]))
    assert asker.found == {
        "samples": 10, "batch_size": 4, "metrics": names, "do_validation": True, "epochs": 1,
        "steps": 3,
    }  # fmt: skip
    assert asker.validation_data is None
    assert "samples" in asker.params and asker.params["samples"] == 10
    assert sorted(asker.params) == ["epochs", "steps", "verbose"]
    batches = ((X[:4], Y[:4]) for _ in range(2))
    compiled().fit(batches, steps_per_epoch=2, verbose=0, callbacks=[asker])
    assert asker.found["metrics"] == ["loss", "mae"]
    assert (asker.found["samples"], asker.found["do_validation"]) == (None, False)
    with pytest.raises(KeyError, match="'samples': this call's params are epochs, steps, verbose"):
        asker.params["samples"]
    compiled().evaluate(X, Y, batch_size=5, callbacks=[asker])
    assert (asker.found["samples"], asker.found["batch_size"]) == (10, 5)
