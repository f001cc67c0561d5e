"""Trials in one program: as each alone, whatever the devices; one that diverges; resumption."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small_detector import CLASSES, Small, Stream, flat, make_batches

from yolo_jax import Input, Model
from yolo_jax.core.anchors import TINY
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.model.callbacks import Callback, Checkpoint, CSVLogger, EachTrial
from yolo_jax.model.graph import apply
from yolo_jax.model.history import History
from yolo_jax.model.losses import detection
from yolo_jax.model.trials import Recipe, Trials, TrialsModel

NAMES = ("usual", "fast", "weighted", "wild")
# The last one's rate leaves no loss finite behind its first step.
NUMBERS = {
    "rate": np.array([1e-4, 1e-3, 3e-3, 1e10], np.float32),
    "weight": np.array([1, 2, 0.5, 1], np.float32),
    "decay": np.array([0.5, 0.9, 0.8, 0.5], np.float32),
    "smoothing": np.array([0, 0.1, 0, 0], np.float32),
}
ROWS, VALIDATION = make_batches(32), make_batches(8, seed=5)
EPOCHS = 3


def heads() -> Model:
    image = Input((64, 64, 3), name="image", dtype=jnp.uint8)
    return Model(image, list(apply(Small(nnx.Rngs(0)), image)))


def recipe(numbers) -> Recipe:
    loss = DetectionLoss(
        TINY, CLASSES, box_weight=numbers["weight"], label_smoothing=numbers["smoothing"]
    )
    optimizer = optax.sgd(numbers["rate"], momentum=0.9)
    return Recipe(optimizer, detection(loss), ema_decay=numbers["decay"])


def trials_model(devices: int) -> TrialsModel:
    model = heads()
    # Each with a seed of its own would start apart; here all start alike.
    trials = TrialsModel(model, [model.state] * len(NAMES))
    trials.compile_trials(Trials(NAMES, NUMBERS, recipe), devices=jax.devices()[:devices])
    return trials


def fit(model: Model, epochs: int = EPOCHS, **options) -> History:
    return model.fit(
        Stream(ROWS), epochs=epochs, verbose=0, validation_data=Stream(VALIDATION), **options
    )


@dataclass
class Alone:
    model: Model
    history: dict


@pytest.fixture(scope="module")
def alone() -> list[Alone]:
    """Each of the first three as a run of its own."""
    found = []
    for index in range(3):
        made = recipe({name: float(values[index]) for name, values in NUMBERS.items()})
        model = heads()
        model.compile(
            made.optimizer, made.loss, ema_decay=made.ema_decay, devices=jax.devices()[:1]
        )
        found.append(Alone(model, fit(model).history))
    return found


@pytest.mark.parametrize("devices", [1, 3])
def test_a_trial_is_what_it_is_alone(devices, alone):
    trials = trials_model(devices)
    with pytest.warns(UserWarning, match="trial wild: the loss of step 1 "):
        history = fit(trials).history
    for index, (name, one) in enumerate(zip(NAMES, alone, strict=False)):
        for key, values in one.history.items():
            np.testing.assert_allclose(history[f"{key}@{name}"], values, rtol=1e-5, err_msg=key)
        state = trials.trial(index)
        for part in ("params", "ema", "opt_state", "batch_stats"):
            mine, own = flat(getattr(state, part)), flat(getattr(one.model.state, part))
            assert np.linalg.norm(mine - own) <= 1e-5 * np.linalg.norm(own), part
    np.testing.assert_allclose(
        history["val_loss"],
        np.mean([one.history["val_loss"] for one in alone], axis=0),
        rtol=1e-5,
    )


def test_one_that_diverges_is_frozen_where_it_was(alone):
    trials = trials_model(2)
    with pytest.warns(UserWarning, match="trial wild"):
        history = fit(trials).history
    assert [trials.failure_of(index) for index in range(4)] == [None, None, None, (1, "loss")]
    frozen = trials.trial(3)
    assert np.isfinite(flat(frozen.params)).all()
    assert int(frozen.step) == 2  # the refused step counts, none after it
    assert np.isnan(history["val_loss@wild"]).all()
    assert np.isnan(history["loss@wild"][1:]).all()


@pytest.mark.parametrize("devices", [1, 2])
def test_an_epoch_in_which_an_update_was_refused_has_no_logs(devices, tmp_path):
    """Though every loss that was summed up is finite: they are of a part of the epoch."""
    model = heads()
    trials = TrialsModel(model, [model.state] * 2)
    numbers = {name: np.repeat(values[:1], 2) for name, values in NUMBERS.items()}
    numbers["rate"][1] = np.inf
    trials.compile_trials(
        Trials(("usual", "wild"), numbers, recipe), devices=jax.devices()[:devices]
    )
    files = {name: tmp_path / f"{name}.csv" for name in ("usual", "wild")}
    loggers = EachTrial({name: [CSVLogger(file)] for name, file in files.items()})
    with pytest.warns(UserWarning, match="trial wild: the update of step 0 "):
        history = fit(trials, 1, callbacks=[loggers]).history
    assert np.isnan(history["loss@wild"]).all() and np.isfinite(history["loss@usual"]).all()
    assert history["loss"] == history["loss@usual"]
    assert files["usual"].is_file() and not files["wild"].exists()


def test_where_all_diverge_the_fit_ends():
    model = heads()
    trials = TrialsModel(model, [model.state] * 2)
    numbers = {name: np.repeat(values[3:], 2) for name, values in NUMBERS.items()}
    trials.compile_trials(Trials(("a", "b"), numbers, recipe), devices=jax.devices()[:1])
    with pytest.raises(FloatingPointError, match="trial a: the loss of step 1 "):
        fit(trials, on_nonfinite="stop")


class _Stop(Callback):
    """Ends a fit as a kill would: nothing is saved but what was."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:trial wild")
def test_trials_resume_as_one_to_the_bit_on_other_devices_too(tmp_path, alone):
    def loggers(folder):
        return EachTrial({name: [CSVLogger(folder / f"{name}.csv")] for name in NAMES})

    whole, cut, moved = trials_model(1), trials_model(1), trials_model(3)
    fit(whole, callbacks=[loggers(tmp_path / "whole")])
    with pytest.raises(KeyboardInterrupt):
        fit(cut, callbacks=[_Stop(), loggers(tmp_path / "cut"), Checkpoint(tmp_path / "saved")])
    again = trials_model(1)
    for model in (again, moved):
        fit(model, resume=tmp_path / "saved", callbacks=[loggers(tmp_path / "cut")])
    for one, other in zip(jax.tree.leaves(whole.state), jax.tree.leaves(again.state), strict=True):
        np.testing.assert_array_equal(one, other)
    for index in range(4):
        mine, own = flat(moved.trial(index).params), flat(whole.trial(index).params)
        np.testing.assert_allclose(mine, own, rtol=1e-4, atol=1e-6)
    assert moved.failure_of(3) == (1, "loss")  # frozen as before, though a fit began anew
    for name in NAMES[:3]:
        text = (tmp_path / "whole" / f"{name}.csv").read_text()
        assert text.splitlines()[0].split(",")[:2] == ["epoch", "classification_loss"]
        assert len(text.splitlines()) == 1 + EPOCHS
        assert "@" not in text
    own = np.genfromtxt(tmp_path / "whole" / "usual.csv", delimiter=",", names=True)
    np.testing.assert_allclose(own["loss"], alone[0].history["loss"], rtol=1e-6)
    assert not (tmp_path / "whole" / "wild.csv").exists()  # not one whole epoch


def test_the_bar_shows_the_mean_of_trials(capsys):
    trials = trials_model(1)
    with pytest.warns(UserWarning, match="trial wild"):
        trials.fit(Stream(ROWS), epochs=1, verbose=2)
    shown = capsys.readouterr().out
    assert " - loss: " in shown
    assert "@" not in shown


def test_numbers_of_another_length_and_names_alike_are_refused():
    with pytest.raises(ValueError, match="'rate' are 2; expected one for each of the 3 trials"):
        Trials(("a", "b", "c"), {"rate": np.ones(2)}, recipe)
    with pytest.raises(ValueError, match="a name each"):
        Trials(("a", "a"), {"rate": np.ones(2)}, recipe)
    with pytest.raises(ValueError, match=r"logs have @ before a trial's name; found \['b@a'\]"):
        Trials(("a", "b@a"), {"rate": np.ones(2)}, recipe)
    model = heads()
    with pytest.raises(ValueError, match="4 trials for 1 starting states"):
        TrialsModel(model, [model.state]).compile_trials(Trials(NAMES, NUMBERS, recipe))
