"""The callbacks that Keras does not have: MeanAP, ExponentialMovingAverage, Profile."""

import numpy as np
import pytest
from flax import nnx
from tensorboardX.proto import event_pb2

from yolo_jax import Input, Lambda, Model
from yolo_jax.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    ExponentialMovingAverage,
    LambdaCallback,
    MeanAP,
    ModelCheckpoint,
    Profile,
    TensorBoard,
)
from yolo_jax.core.anchors import TINY
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers.coco import read_coco
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.detection.nms import Suppression
from yolo_jax.evaluation.average_precision import coco_average_precision
from yolo_jax.layers import AveragePooling2D, Conv2D, Dense, apply
from yolo_jax.losses import detection
from yolo_jax.model.callbacks.mean_ap import _Heads
from yolo_jax.networks.yolov3 import TinyYOLOv3
from yolo_jax.optimizers import SGD


@pytest.fixture(scope="module")
def loader():
    trees = read_coco("experiments/data/tree_crowns/validation.json")[0]
    return Loader(trees, batch_size=4, image_shape=(64, 64), max_boxes=16)


def make_detector_model():
    image = Input((64, 64, 3), name="image", dtype=np.uint8)
    heads = apply(TinyYOLOv3(1, rngs=nnx.Rngs(0)), image, name="network")
    model = Model(image, list(heads))
    model.compile("sgd", detection(DetectionLoss(TINY, 1)))
    return model


def make_small_model(optimizer="sgd"):
    x = Input((4,))
    model = Model(x, Dense(2, name="out")(x))  # by that name a checkpoint knows it
    model.compile(optimizer, "mse")
    model.set_weights([np.ones((4, 2)), np.zeros(2)])
    return model


X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = X[:, :2]


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_mean_ap_is_what_detecting_and_scoring_give(loader, tmp_path):
    model = make_detector_model()
    mean_ap = MeanAP(loader, TINY, freq=2)
    saver = ModelCheckpoint(
        f"{tmp_path}/best.h5", monitor="val_AP50", save_best_only=True, period=2
    )
    assert saver.mode == "max"
    board = TensorBoard(tmp_path / "board", images=lambda: mean_ap.pictures(3, threshold=0))
    history = model.fit(
        loader, epochs=3, steps_per_epoch=1, verbose=0, callbacks=[mean_ap, saver, board]
    ).history
    assert len(history["loss"]) == 3
    assert len(history["val_AP"]) == len(history["val_AP50"]) == 1
    model.load_weights(tmp_path / "best.h5")
    network = model.module().layers["network"]
    detector = Detector(network, TINY, ["Tree"], (64, 64), suppression=Suppression(0.001, 0.45))
    found = detector.detect_batches(loader.one_pass())
    scored = coco_average_precision(loader.dataset, found)
    assert history["val_AP50"] == [pytest.approx(scored.ap50, abs=1e-9)]
    assert history["val_AP"] == [pytest.approx(scored.ap, abs=1e-9)]
    for image_id, detections in found.items():
        np.testing.assert_array_equal(mean_ap.detections[image_id].boxes, detections.boxes)
    (events,) = (tmp_path / "board").iterdir()
    content = events.read_bytes()
    tags, start = [], 0
    while start < len(content):
        size = int.from_bytes(content[start : start + 8], "little")
        event = event_pb2.Event.FromString(content[start + 12 : start + 12 + size])
        tags += [(v.tag, event.step) for v in event.summary.value if v.HasField("image")]
        start += 16 + size
    # Nothing was detected before the first score, after epoch 1 (from 0).
    assert [step for _, step in tags] == [1] * 3 + [2] * 3


def test_mean_ap_wants_heads(loader):
    model = make_small_model()
    with pytest.raises(ValueError, match="MeanAP reads 2 heads .* where the loss is inside"):
        model.fit(X, Y, verbose=0, callbacks=[MeanAP(loader, TINY)])
    assert int(model.state.step) == 0
    with pytest.raises(ValueError, match="freq is a number of epochs, 1 or more; found 0"):
        MeanAP(loader, TINY, freq=0)


def make_body():
    """Two heads of a convolution each, at the strides of tiny."""
    image = Input((64, 64, 3), name="image")
    pooled = [AveragePooling2D(size)(image) for size in (32, 16)]
    heads = [Conv2D(18, 1, name=name)(x) for x, name in zip(pooled, ("p1", "p2"), strict=True)]
    return image, Model(image, heads)


@pytest.mark.usefixtures("one_device")
def test_mean_ap_of_a_body_scores_the_average_as_evaluation_does(loader, tmp_path):
    """keras-yolo3 trains a model with its loss within; the heads are those of another."""
    image, body = make_body()
    loss = Lambda(lambda heads: sum((h**2).mean() for h in heads), output_shape=(1,), name="loss")
    model = Model(image, loss(body.output))
    model.compile("sgd", {"loss": lambda true, found: found})
    mean_ap = MeanAP(loader, TINY, model=body, score_threshold=0.2)
    images = np.random.default_rng(0).random((8, 64, 64, 3), np.float32)
    model.fit(
        images, np.zeros(8), batch_size=1, epochs=2, verbose=0,
        callbacks=[ExponentialMovingAverage(0.99), mean_ap],
    )  # fmt: skip
    model.save_weights(tmp_path / "average.h5")
    weights = body.get_weights()

    def detections(weights):
        _, other = make_body()
        other.set_weights(weights)
        network = _Heads(other.module())
        return Detector(
            network, TINY, ["Tree"], (64, 64), suppression=Suppression(0.2)
        ).detect_batches(loader.one_pass())

    raw = detections(weights)
    body.load_weights(tmp_path / "average.h5", by_name=True)
    average = detections(body.get_weights())
    (first, *_) = raw
    assert raw[first].scores.tolist() != average[first].scores.tolist()
    for image_id, found in average.items():
        np.testing.assert_array_equal(mean_ap.detections[image_id].scores, found.scores)


def test_what_is_saved_is_the_average_that_was_judged(tmp_path):
    """By `save_weights`, by ModelCheckpoint, and kept by EarlyStopping for restoring."""
    model, other = make_small_model(SGD(0.1)), make_small_model()
    # The weights come by these on their way from ones to Y's.
    halfway = X @ ((np.ones((4, 2)) + np.eye(4, 2)) / 2)
    stopper = EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    history = model.fit(
        X, Y, batch_size=8, epochs=9, verbose=0, validation_data=(X, halfway),
        callbacks=[
            ExponentialMovingAverage(0.9),
            ModelCheckpoint(tmp_path / "{epoch}.h5"),
            ModelCheckpoint(tmp_path / "best.h5", save_best_only=True),
            stopper,
        ],
    ).history  # fmt: skip
    best = int(np.argmin(history["val_loss"]))
    assert 0 < best < 7
    assert stopper.stopped_epoch == best + 1
    for epoch, expected in enumerate(history["val_loss"]):
        other.load_weights(tmp_path / f"{epoch + 1}.h5")
        assert other.evaluate(X, halfway) == pytest.approx(expected, rel=1e-6)
    assert model.evaluate(X, halfway) == pytest.approx(history["val_loss"][best], rel=1e-6)
    other.load_weights(tmp_path / "best.h5")
    np.testing.assert_array_equal(other.predict(X), model.predict(X))


def test_saving_leaves_the_training_as_it_was(tmp_path):
    """The layers hold the average only for as long as it is written."""
    saved, plain = make_small_model("adam"), make_small_model("adam")
    for model, callbacks in ((saved, [ModelCheckpoint(tmp_path / "{epoch}.h5")]), (plain, [])):
        model.fit(
            X, Y, batch_size=8, epochs=3, verbose=0,
            callbacks=[ExponentialMovingAverage(0.9), *callbacks],
        )  # fmt: skip
    saved.save_weights(tmp_path / "after.h5")
    for one, other in zip(saved.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(saved.predict(X), plain.predict(X))


def test_the_average_is_that_of_compile():
    asked, compiled = make_small_model(), make_small_model()
    compiled.compile("sgd", "mse", ema_decay=0.9)
    for model, callbacks in ((asked, [ExponentialMovingAverage(0.9)]), (compiled, [])):
        for _ in range(2):
            model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    np.testing.assert_array_equal(asked.predict(X), compiled.predict(X))
    assert asked.evaluate(X, Y) == compiled.evaluate(X, Y)
    plain = make_small_model()
    plain.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert (plain.predict(X) != asked.predict(X)).any()
    with pytest.raises(ValueError, match="from 0 to below 1; found 1"):
        ExponentialMovingAverage(1)


def test_the_average_goes_on_in_a_resumed_run(tmp_path):
    def fit(folder, epochs):
        model = make_small_model()
        model.fit(
            X, Y, batch_size=8, verbose=0, epochs=epochs, resume=folder,
            callbacks=[ExponentialMovingAverage(0.9), Checkpoint(folder, monitor=None)],
        )  # fmt: skip
        return model.predict(X)

    whole = fit(tmp_path / "whole", 3)
    fit(tmp_path / "stopped", 1)
    np.testing.assert_array_equal(fit(tmp_path / "stopped", 3), whole)


class StopAt(Callback):
    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            self.model.stop_training = True


class BreakAt(StopAt):
    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            raise KeyboardInterrupt


def test_an_average_needs_a_compiled_model():
    x = Input((4,))
    with pytest.raises(RuntimeError, match="You must compile"):
        Model(x, Dense(2)(x)).predict(X, callbacks=[ExponentialMovingAverage(0.9)])


def test_a_trace_is_ended_when_the_fit_breaks_off(tmp_path):
    profile = Profile(tmp_path / "broken", first_step=2, steps=30)
    with pytest.raises(KeyboardInterrupt):
        make_small_model().fit(X, Y, batch_size=4, verbose=0, callbacks=[profile, BreakAt(3)])
    assert list((tmp_path / "broken").rglob("*.xplane.pb"))
    make_small_model().fit(X, Y, verbose=0, callbacks=[Profile(tmp_path / "more", 0, 1)])
    assert list((tmp_path / "more").rglob("*.xplane.pb"))


def test_steps_are_counted_over_the_whole_fit(tmp_path, monkeypatch):
    """Epochs of 5 batches: steps 7 to 9 are those 2 to 4 of the second."""
    seen = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: seen.append("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: seen.append("stop"))
    profile = Profile(tmp_path / "trace", first_step=7, steps=3)
    note = LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(f"epoch {epoch}"),
        on_batch_end=lambda batch, logs: seen.append(batch),
    )
    make_small_model().fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[profile, note])
    assert seen == [
        "epoch 0", 0, 1, 2, 3, 4,
        "epoch 1", 0, 1, "start", 2, 3, "stop", 4,
        "epoch 2", 0, 1, 2, 3, 4,
    ]  # fmt: skip


@pytest.mark.parametrize("callbacks", [[], [StopAt(3)]])
def test_a_trace_is_written_also_of_a_fit_that_ends_early(tmp_path, callbacks):
    profile = Profile(tmp_path / "trace", first_step=2, steps=3)
    make_small_model().fit(X, Y, batch_size=4, verbose=0, callbacks=[profile, *callbacks])
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))
    # Nothing is left running: another trace can start.
    make_small_model().fit(X, Y, verbose=0, callbacks=[Profile(tmp_path / "more", 0, 1)])
    assert list((tmp_path / "more").rglob("*.xplane.pb"))


def test_profile_counts_from_0():
    with pytest.raises(ValueError, match="found -1, 5"):
        Profile("x", first_step=-1)
