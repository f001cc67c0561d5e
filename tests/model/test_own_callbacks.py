"""The callbacks that Keras does not have: MeanAP, ExponentialMovingAverage, Profile."""

import numpy as np
import pytest
from flax import nnx
from tensorboardX.proto import event_pb2

from yolo_jax import Input, Model
from yolo_jax.callbacks import (
    Callback,
    Checkpoint,
    ExponentialMovingAverage,
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
from yolo_jax.evaluation.average_precision import coco_average_precision
from yolo_jax.layers import Dense, apply
from yolo_jax.losses import detection
from yolo_jax.networks.yolov3 import TinyYOLOv3


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
    detector = Detector(
        network, TINY, ["Tree"], (64, 64), score_threshold=0.001, iou_threshold=0.45
    )
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
