"""`fit` of detectors: freezing, averages, refused updates, generators, augmentation."""

import re
import time
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small_detector import CLASSES, Small, Stream, flat, make_batches, make_model

from yolo_jax import Input, Lambda, Model
from yolo_jax.core.anchors import TINY
from yolo_jax.detection.loss import yolo_loss
from yolo_jax.detection.targets import dense_targets
from yolo_jax.layers import Dense
from yolo_jax.model.callbacks import LambdaCallback
from yolo_jax.model.graph import apply
from yolo_jax.networks.blocks import BatchNorm
from yolo_jax.training.optimizers import parameter_path


def test_frozen_layers_keep_weights_and_statistics():
    model = make_model(frozen=["*body/*"])
    before = jax.device_get((model.state.params, model.state.batch_stats))
    model.fit(Stream(make_batches()), epochs=2, verbose=0)
    after = jax.device_get((model.state.params, model.state.batch_stats))
    changed = {
        parameter_path(path)
        for (path, old), new in zip(
            jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
        )
        if not np.array_equal(old, new)
    }
    assert changed
    assert all("coarse" in path or "fine" in path for path in changed)


def test_freezing_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="matches no parameter"):
        make_model(frozen=["*backbone/*"])


def test_ema_is_the_average_of_the_weights_and_is_what_evaluates():
    model = make_model(ema_decay=0.5)
    start = flat(model.state.params)
    model.fit(Stream(make_batches(8)), epochs=1, verbose=0)
    np.testing.assert_allclose(
        flat(model.state.ema), (start + flat(model.state.params)) / 2, rtol=1e-5, atol=1e-7
    )
    with_ema = model.evaluate(Stream(make_batches(8)), return_dict=True)["loss"]
    model.state = model.state._replace(ema=model.state.params)
    assert model.evaluate(Stream(make_batches(8)), return_dict=True)["loss"] != pytest.approx(
        with_ema, rel=1e-6
    )


@pytest.mark.parametrize("corner", [np.inf, np.nan])
def test_the_loss_of_a_box_that_is_not_finite_is_refused_and_named(corner):
    model = make_model(optax.sgd(1e-4))
    rows = make_batches(16)
    rows.boxes[9, 0] = [0, 0, corner, corner]
    start = flat(model.state.params)
    with pytest.raises(FloatingPointError, match="loss of step 1 "):
        model.fit(Stream(rows), epochs=1, verbose=0, on_nonfinite="stop")
    assert np.isfinite(flat(model.state.params)).all()
    assert not np.array_equal(start, flat(model.state.params))


def test_a_generators_batch_of_fewer_rows_may_bring_weights():
    x = Input((2,), name="x")
    model = Model(x, Dense(1)(x))
    model.compile("sgd", "mse")
    rows = np.ones((5, 2), np.float32), np.ones((5, 1), np.float32), np.arange(5, dtype=np.float32)
    batches = (tuple(part[cut] for part in rows) for cut in (slice(3), slice(3, 5)))
    history = model.fit(batches, steps_per_epoch=2, verbose=0)
    assert len(history.history["loss"]) == 1


def test_a_generator_is_read_from_where_it_stands_whatever_the_first_epoch():
    """keras-yolo3's second stage starts at epoch 50 with a new generator."""
    seen = []

    def batches():
        for number in range(2):
            seen.append(number)
            batch = make_batches(8)
            yield batch.image, {"boxes": batch.boxes, "classes": batch.classes}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = make_model().fit(
            batches(), steps_per_epoch=2, epochs=51, initial_epoch=50, verbose=0, workers=0
        )
    assert history.epoch == [50]
    assert seen == [0, 1]


def test_keras_yolo3s_own_trick_trains():
    """The loss as a Lambda layer of the model, compiled with the identity."""
    rows = make_batches(10)
    targets = dense_targets(
        jnp.asarray(rows.boxes), jnp.asarray(rows.classes), TINY, CLASSES, (64, 64)
    )
    image = Input((64, 64, 3), name="image", dtype=jnp.uint8)
    y_true = [Input(target.shape[1:], name=f"y_true_{i}") for i, target in enumerate(targets)]
    heads = apply(Small(nnx.Rngs(0)), image)
    loss = Lambda(
        yolo_loss,
        output_shape=(1,),
        name="yolo_loss",
        arguments={"anchors": np.array(TINY.sizes), "num_classes": CLASSES, "ignore_thresh": 0.5},
    )([*heads, *y_true])
    model = Model([image, *y_true], loss)
    model.compile(optax.adam(1e-2), loss={"yolo_loss": lambda y_true, y_pred: y_pred})
    x = [rows.image, *map(np.asarray, targets)]
    history = model.fit(x, np.zeros(10), batch_size=4, epochs=6, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert model.predict(x, batch_size=10) == pytest.approx(model.evaluate(x, np.zeros(10)))


def test_bad_use_is_refused():
    image = Input((8,), name="x")
    other = Input((8,), name="elsewhere")
    total = Lambda(lambda xs: xs[0] + xs[1])([image, other])
    with pytest.raises(ValueError, match="'elsewhere'"):
        Model(image, total)
    with pytest.raises(TypeError, match="Lambda takes a function"):
        Lambda(3)
    model = Model([image, other], total)
    with pytest.raises(RuntimeError, match="must compile"):
        model.fit([np.zeros((4, 8))] * 2, np.zeros((4, 8)))
    with pytest.raises(ValueError, match="Unknown entries in loss dictionary"):
        model.compile(optax.sgd(0.1), {"nope": lambda t, p: p})


def test_frozen_batch_norms_are_found():
    model = make_model(frozen=["*body/0/*"])
    norms = [n for _, n in nnx.iter_graph(model.graph) if isinstance(n, BatchNorm)]
    assert len(norms) == 5
    assert sum(model.require_compiled().forward.frozen_norms) == 1


def test_a_module_is_fetched_without_the_optimizers_slots(monkeypatch):
    model = make_model()
    fetched = []
    device_get = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: fetched.append(tree) or device_get(tree))
    module = model.module()
    wanted = (model.state.params, model.state.batch_stats)
    assert [leaf.shape for leaf in jax.tree.leaves(fetched)] == [
        leaf.shape for leaf in jax.tree.leaves(wanted)
    ]
    image = make_batches(2).image
    for found, expected in zip(module([image]), model.predict(image), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_epoch_says_what_share_of_it_waited_for_data(capsys):
    class Slow(Stream):
        def batches(self, start=0):
            for batch in super().batches(start):
                time.sleep(0.3)
                yield batch

    model = make_model()
    model.fit(Stream(make_batches(16)), epochs=1, verbose=0)  # compiles
    for stream, least in ((Stream, 0), (Slow, 10)):
        model.fit(stream(make_batches(16)), epochs=1, verbose=1)
        line = capsys.readouterr().out
        (share,) = re.findall(r" images/s - (\d+\.\d)% waiting for data - ", line)
        assert least <= float(share) <= 100


@pytest.mark.parametrize("devices", [1, 8])
def test_each_step_takes_its_own_of_several_augmentations(devices):
    """Such as those to several sizes; each is compiled once, before the first step."""
    seen = []

    def to(side, keys, image, boxes, classes):
        seen.append(side)  # when it is compiled
        return image[:, :side, :side] / 255, boxes, classes

    class Sizes:
        transforms = (partial(to, 32), partial(to, 64))

        def at(self, step):
            return self.transforms[0 if step % 3 else 1]

    model = make_model(augment=Sizes(), devices=devices)
    compiled = []
    first = LambdaCallback(on_train_batch_end=lambda batch, logs: compiled.append(list(seen)))
    logs = model.fit(Stream(make_batches(16)), epochs=3, verbose=0, callbacks=[first])
    assert np.isfinite(logs.history["loss"]).all()
    assert set(compiled[0]) == {32, 64}
    model.fit(Stream(make_batches(16)), epochs=5, initial_epoch=3, verbose=0)
    assert seen == compiled[0]
