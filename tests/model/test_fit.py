"""`Model` and `fit`: keras-yolo3's trick, equality across devices, freezing, bad numbers."""

import re
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from yolo_jax import Input, K, Lambda, Model
from yolo_jax.core.anchors import TINY
from yolo_jax.core.precision import Precision
from yolo_jax.core.types import Batch
from yolo_jax.detection.loss import DetectionLoss, yolo_loss
from yolo_jax.detection.targets import dense_targets
from yolo_jax.layers import Dense
from yolo_jax.model.callbacks import Callback, Checkpoint, LambdaCallback
from yolo_jax.model.graph import apply
from yolo_jax.model.losses import detection
from yolo_jax.networks.blocks import BatchNorm, ConvBlock, OutputConv
from yolo_jax.training.optimizers import parameter_path

CLASSES = 3


class Small(nnx.Module):
    """A two-scale network of a few thousand weights, at the strides of tiny."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        precision = Precision()
        self.body = nnx.List(
            [
                ConvBlock(3 if i == 0 else 8, 8, 3, stride=2, precision=precision, rngs=rngs)
                for i in range(5)
            ]
        )
        outputs = 3 * (5 + CLASSES)
        self.coarse = OutputConv(8, outputs, precision=precision, rngs=rngs)
        self.fine = OutputConv(8, outputs, precision=precision, rngs=rngs)

    def __call__(self, image, row_mask=None):
        x = image.astype(jnp.float32) / 255
        for index, block in enumerate(self.body):
            x = block(x, row_mask)
            fine = x if index == 3 else None if index < 3 else fine
        return self.coarse(x), self.fine(fine)


def make_batches(rows: int = 16, seed: int = 0) -> Batch:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 40, (rows, 4, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(8, 24, (rows, 4, 2))], -1)
    return Batch(
        image=generator.integers(0, 255, (rows, 64, 64, 3), np.uint8),
        boxes=boxes.astype(np.float32),
        classes=generator.integers(0, CLASSES, (rows, 4)).astype(np.int32),
        image_id=np.arange(rows, dtype=np.int32),
        original_size=np.full((rows, 2), 64, np.int32),
    )


class Stream:
    """A loader over one array of rows."""

    def __init__(self, rows: Batch, batch_size: int = 8) -> None:
        self.rows, self.batch_size = rows, batch_size

    def __len__(self) -> int:
        return -(-len(self.rows.image) // self.batch_size)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        while True:
            first = start % len(self) * self.batch_size
            yield Batch(*(array[first : first + self.batch_size] for array in self.rows[:5]))
            start += 1


def make_model(optimizer=None, devices: int = 1, **options) -> Model:
    image = Input((64, 64, 3), name="image", dtype=jnp.uint8)
    heads = apply(Small(nnx.Rngs(0)), image)
    model = Model(image, list(heads))
    model.compile(
        optimizer or optax.sgd(1e-4, momentum=0.9),
        detection(DetectionLoss(TINY, CLASSES)),
        devices=jax.devices()[:devices],
        **options,
    )
    return model


def one_row(rows: Batch, index: int) -> Stream:
    return Stream(Batch(*(array[index : index + 1] for array in rows[:5])))


def flat(tree) -> np.ndarray:
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def test_eight_devices_train_as_one_does():
    one, eight = (make_model(devices=n, sync_batch_norm=True, ema_decay=0.9) for n in (1, 8))
    rows = make_batches(24)
    histories = [m.fit(Stream(rows), epochs=2, verbose=0).history for m in (one, eight)]
    for key in histories[0]:
        np.testing.assert_allclose(histories[0][key], histories[1][key], rtol=1e-5)
    start, end, other = (
        flat(make_model().state.params),
        flat(one.state.params),
        flat(eight.state.params),
    )
    assert np.linalg.norm(end - start) / np.linalg.norm(start) > 1e-4
    assert np.linalg.norm(end - other) / np.linalg.norm(end) <= 1e-5
    np.testing.assert_allclose(
        flat(one.state.batch_stats), flat(eight.state.batch_stats), rtol=1e-4, atol=1e-6
    )


def test_a_last_batch_that_does_not_divide_counts_each_row_once():
    rows = make_batches(19)
    one, eight = (make_model(devices=n, sync_batch_norm=True) for n in (1, 8))
    losses = [m.fit(Stream(rows), epochs=2, verbose=0).history["loss"] for m in (one, eight)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    found = eight.evaluate(Stream(rows), return_dict=True)["loss"]
    each = [eight.evaluate(one_row(rows, i), return_dict=True)["loss"] for i in range(19)]
    assert found == pytest.approx(np.mean(each), rel=1e-5)


def test_rows_that_do_not_divide_are_shared_all_the_same():
    """A loss by row is computed in shares, its last batch filled up, and equals one device's."""
    rows = make_batches(19)
    one, eight = (make_model(devices=n, sync_batch_norm=True, ema_decay=0.9) for n in (1, 8))
    for model in (one, eight):
        model.fit(Stream(rows), epochs=2, verbose=0)
    assert set(eight.require_compiled()._steps) == {("train", True, None)}
    np.testing.assert_allclose(
        flat(one.state.batch_stats), flat(eight.state.batch_stats), rtol=1e-4, atol=1e-6
    )
    start = flat(make_model().state.params)
    change = flat(one.state.params) - start
    assert np.linalg.norm(flat(eight.state.params) - start - change) <= 1e-4 * np.linalg.norm(
        change
    )


def test_devices_with_nothing_but_padding_do_no_harm():
    """Three rows on eight devices, each normalised by itself: five devices have no row."""
    model = make_model(devices=8)
    rows = make_batches(3)
    model.fit(Stream(rows), epochs=3, verbose=0)
    assert np.isfinite(flat(model.state.params)).all()
    three = make_model(devices=3)
    three.fit(Stream(rows), epochs=3, verbose=0)
    np.testing.assert_allclose(flat(model.state.params), flat(three.state.params), atol=1e-5)
    np.testing.assert_allclose(
        flat(model.state.batch_stats), flat(three.state.batch_stats), rtol=1e-5, atol=1e-6
    )


def test_a_loss_of_one_number_sees_its_last_batch_unpadded():
    """A sum over the batch would count padding rows: every device computes the whole batch."""

    def model(devices: int) -> Model:
        x = Input((4,), name="x")
        made = Model(x, apply(nnx.Linear(4, 1, rngs=nnx.Rngs(0)), x))
        made.compile(
            optax.sgd(0.1),
            lambda true, found: jnp.square(found - true).mean(),
            devices=jax.devices()[:devices],
        )
        return made

    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 13, 4)).astype(np.float32)[0], np.ones((13, 1), np.float32)
    one, eight = model(1), model(8)
    histories = [
        m.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"]
        for m in (one, eight)
    ]
    np.testing.assert_allclose(*histories, rtol=1e-5)
    assert set(eight.require_compiled()._steps) == {("train", True, None), ("train", False, None)}
    np.testing.assert_allclose(flat(one.state.params), flat(eight.state.params), rtol=1e-5)


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


def test_an_infinite_update_is_refused_and_named():
    model = make_model(optax.sgd(1e-4))
    rows = make_batches(16)
    rows.boxes[9, 0] = [0, 0, np.inf, np.inf]
    start = flat(model.state.params)
    with pytest.raises(FloatingPointError, match="of step 1 "):
        model.fit(Stream(rows), epochs=1, verbose=0, strict=True)
    assert np.isfinite(flat(model.state.params)).all()
    assert not np.array_equal(start, flat(model.state.params))


def test_padding_rows_change_nothing():
    """A row whose image could not be read takes no part in loss or statistics."""
    rows = make_batches(4)
    padded = Batch(*(np.concatenate([array, array[:2]]) for array in rows[:5]))
    padded.image_id[4:] = -1
    padded.image[4:] = 255
    results = []
    for batch in (rows, padded):
        model = make_model()
        loss = model.fit(Stream(batch), epochs=1, verbose=0).history["loss"]
        results.append((loss, flat(model.state.params), flat(model.state.batch_stats)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(results[0][2], results[1][2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("every_steps", [None, 1])
def test_resuming_is_bitwise(tmp_path: Path, every_steps):
    class Stop(Callback):
        """Breaks off amid the second epoch."""

        def on_train_batch_end(self, batch, logs):
            if self.model.run.epoch == 1 and batch == 1:
                raise KeyboardInterrupt

    def fit(folder: Path, *callbacks):
        model = make_model(optax.adam(1e-3), ema_decay=0.9)
        history = model.fit(
            Stream(make_batches(24)),
            epochs=3,
            verbose=0,
            callbacks=[Checkpoint(folder, monitor="loss", every_steps=every_steps), *callbacks],
            resume=folder,
        )
        return model, history

    whole, whole_history = fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "broken", Stop())
    resumed, history = fit(tmp_path / "broken")
    for old, new in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(old, new)
    assert history.history == whole_history.history
    assert history.epoch == [0, 1, 2]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path):
    saver = Checkpoint(tmp_path, monitor=None)
    make_model().fit(Stream(make_batches(8)), epochs=1, verbose=0, callbacks=[saver])
    other = make_model(optax.adam(1e-3))
    with pytest.raises(ValueError, match="another model or optimizer"):
        other.fit(Stream(make_batches(8)), epochs=2, verbose=0, resume=tmp_path)


def test_initial_epoch_is_where_a_run_starts_that_has_no_checkpoint_yet(tmp_path: Path):
    def fit(initial_epoch, epochs):
        saver = Checkpoint(tmp_path, monitor=None)
        return make_model().fit(
            Stream(make_batches(8)), epochs=epochs, initial_epoch=initial_epoch, verbose=0,
            callbacks=[saver], resume=tmp_path,
        ).epoch  # fmt: skip

    assert fit(2, 3) == [2]
    assert fit(2, 5) == [2, 3, 4]
    with pytest.raises(ValueError, match="stands at epoch 5, before initial_epoch 6"):
        fit(6, 7)


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
    assert sum(model.require_compiled().frozen_norms) == 1


def make_line(**given):
    """A model of one weight and bias that the loss moves a little at every step."""
    x = Input((2,), name="x")
    model = Model(x, Dense(1, name="line")(x))
    model.compile("sgd", "mse", devices=jax.devices()[:1], **given)
    return model


LINE_X = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
LINE_Y = LINE_X[:, :1] * 2 + 1


class Watch(Callback):
    """Calls a function of the model after every batch and keeps what it returns."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.look(self.model))


def kernels_by_step(**given):
    """Returns the kernel after each step, of a run that nobody watches."""
    found = []
    for steps in range(1, 7):
        model = make_line(**given)
        model.set_weights([np.ones((2, 1)), np.zeros(1)])
        for start in range(0, 2 * steps, 2):
            model.train_on_batch(LINE_X[start : start + 2], LINE_Y[start : start + 2])
        found.append(model.get_layer("line").get_weights()[0])
    return found


def saved(tmp_path):
    def look(model):
        model.save_weights(tmp_path / "w.h5")
        other = make_line()
        other.load_weights(tmp_path / "w.h5")
        return other.get_weights()[0]

    return look


@pytest.mark.parametrize(
    "look",
    [
        lambda model: model.get_weights()[0],
        lambda model: model.layers[1].get_weights()[0],
        lambda model: np.asarray(model.weights["line/kernel"][...]),
        lambda model: model(np.eye(2)) - model(np.zeros((2, 2))),
        saved,
    ],
)
def test_batch_hooks_see_the_weights_of_the_moment(look, tmp_path):
    watch = Watch(saved(tmp_path) if look is saved else look)
    model = make_line()
    model.set_weights([np.ones((2, 1)), np.zeros(1)])
    model.fit(LINE_X, LINE_Y, batch_size=2, shuffle=False, verbose=0, callbacks=[watch])
    assert len(watch.seen) == 6
    for found, expected in zip(watch.seen, kernels_by_step(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nothing_is_written_back_for_steps_that_nobody_looks_at(monkeypatch):
    model, written = make_line(), []
    write_back = model.write_back
    monkeypatch.setattr(model, "write_back", lambda: written.append(write_back()))
    given = {"batch_size": 2, "verbose": 0, "epochs": 2}
    model.fit(LINE_X, LINE_Y, **given)
    assert len(written) == 2  # once an epoch
    model.fit(LINE_X, LINE_Y, callbacks=[Watch(lambda model: model.layers)], **given)
    assert len(written) == 2 + 12  # the last look of an epoch serves its end


def test_what_a_hook_sets_in_a_layer_counts_from_the_next_step():
    def clip(model):
        layer = model.layers[1]
        layer.set_weights([np.clip(array, -0.5, 0.5) for array in layer.get_weights()])
        return layer.get_weights()[0]

    model = make_line()
    model.set_weights([np.ones((2, 1)), np.zeros(1)])
    watch = Watch(clip)
    model.fit(LINE_X, LINE_Y, batch_size=2, epochs=3, verbose=0, callbacks=[watch])
    kernel, _ = model.get_weights()
    np.testing.assert_array_equal(kernel, watch.seen[-1])
    assert np.abs(kernel).max() == 0.5

    class Reset(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            line.set_weights([np.full((2, 1), 7.0), np.zeros(1)])

    line = model.get_layer("line")
    seen = Watch(lambda model: model.get_weights()[0])
    model.fit(LINE_X, LINE_Y, batch_size=12, epochs=2, verbose=0, callbacks=[Reset(), seen])
    np.testing.assert_array_equal(*seen.seen)
    assert (seen.seen[0] > 5).all()


def test_of_two_layers_only_the_one_that_was_set_is_taken():
    """The other's variable still holds what it was before training."""
    x = Input((2,))
    first, second = Dense(2), Dense(1)
    model = Model(x, second(first(x)))
    model.compile("sgd", "mse", devices=jax.devices()[:1])
    start = first.get_weights()[0]

    class Set(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5:
                second.set_weights([np.zeros((2, 1)), np.zeros(1)])
                self.found = self.model.get_weights()

    hook = Set()
    model.fit(LINE_X, LINE_Y, batch_size=2, verbose=0, callbacks=[hook])
    assert (hook.found[0] != start).any()
    assert not hook.found[2].any()
    for found, expected in zip(model.get_weights(), hook.found, strict=True):
        np.testing.assert_array_equal(found, expected)


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


def test_a_run_of_a_model_built_again_is_refused_for_its_names(tmp_path):
    def build():
        x = Input((2,))
        model = Model(x, Dense(1)(x))
        model.compile("sgd", "mse", devices=jax.devices()[:1])
        return model

    K.clear_session()
    build().fit(LINE_X, LINE_Y, verbose=0, callbacks=[Checkpoint(tmp_path, monitor=None)])
    with pytest.raises(ValueError, match=r"another model or optimizer.*dense_2.*clear_session\(\)"):
        build().fit(LINE_X, LINE_Y, verbose=0, resume=tmp_path)
    K.clear_session()
    assert build().fit(LINE_X, LINE_Y, epochs=2, verbose=0, resume=tmp_path).epoch == [0, 1]


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
