"""A batch taken in parts: the step of the whole batch, with the memory of a part."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_detector import Stream, flat, make_batches, make_model

from yolo_jax import Input, Lambda, Model
from yolo_jax.layers import BatchNormalization, Dense, Masking
from yolo_jax.model.feed import as_fed

# Each part has its own moments, so batch normalisation is left out of what has to be equal.
NORMS = ("*/norm/*",)


def train(rows: int, **options) -> tuple[np.ndarray, list[float]]:
    """Returns the change of the weights and the losses of two epochs in batches of 16."""
    model = make_model(frozen=NORMS, **options)
    start = flat(model.state.params)
    history = model.fit(Stream(make_batches(rows), 16), epochs=2, verbose=0).history
    return flat(model.state.params) - start, history["loss"]


@pytest.mark.parametrize("devices", [1, 8])
def test_parts_add_up_to_the_batch(devices):
    whole, losses = train(41)  # whose last batch of 9 is filled up
    parts, same_losses = train(41, devices=devices, accumulate=2)
    assert np.linalg.norm(parts - whole) <= 1e-4 * np.linalg.norm(whole)
    np.testing.assert_allclose(same_losses, losses, rtol=1e-5)


def make_normed(**options) -> Model:
    rows = Input((3,))
    # Named, for numbered names would give two models' weights two orders: dense_10 before dense_9.
    normed = BatchNormalization()(Dense(4, name="first")(rows))
    model = Model(rows, Dense(1, name="last")(normed))
    shapes = [weight.shape for weight in model.get_weights()]
    model.set_weights([np.linspace(0.5, 1.5, np.prod(s)).reshape(s) for s in shapes])
    model.compile("sgd", "mse", **{"devices": jax.devices()[:1], **options})
    return model


def test_each_part_moves_the_statistics():
    x, moved = np.tile(np.random.default_rng(0).normal(size=(4, 3)), (4, 1)), []
    for accumulate in (1, 4):
        model = make_normed(accumulate=accumulate)
        start = flat(model.state.batch_stats)
        model.fit(x, np.ones(16), batch_size=16, shuffle=False, verbose=0)
        moved.append(np.linalg.norm(flat(model.state.batch_stats) - start))
    assert moved[1] / moved[0] == pytest.approx((1 - 0.99**4) / 0.01, rel=1e-3)


def test_parts_are_normalised_by_all_devices_rows():
    """With the moments of 8 devices' rows, eight devices see what one does of the same parts."""
    x, y = np.random.default_rng(0).normal(size=(2, 16, 3)).astype(np.float32)
    # A part is half of each device's rows: 0, 2, 4 … and 1, 3, 5 ….
    halves = np.concatenate([np.arange(0, 16, 2), np.arange(1, 16, 2)])
    states = []
    for devices, rows in ((1, halves), (8, np.arange(16))):
        options = {"sync_batch_norm": True, "accumulate": 2, "ema_decay": 0.9}
        model = make_normed(devices=jax.devices()[:devices], **options)
        model.fit(x[rows], y[rows, :1], 16, epochs=3, shuffle=False, verbose=0)
        states.append(model.state)
    for part in ("params", "ema", "batch_stats"):
        expected, found = (flat(getattr(state, part)) for state in states)
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


def test_it_takes_the_memory_of_a_part():
    needed = []
    for accumulate in (1, 4):
        rows = Input((4,))
        made = rows
        for _ in range(4):
            made = Dense(64, "tanh")(made)
        model = Model(rows, Dense(1)(made))
        model.compile("sgd", "mse", accumulate=accumulate, devices=jax.devices()[:1])
        compiled, fed = model.require_compiled(), as_fed((np.ones((4096, 4)), np.ones((4096, 1))))
        arguments = model.state, compiled.zero_sums(model.state, fed, training=True)
        lowered = compiled.lower(*arguments, fed, jax.devices()[:1])
        needed.append(lowered.compile().memory_analysis().temp_size_in_bytes)
    assert needed[1] < 0.4 * needed[0]


def test_a_loss_that_is_one_number():
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    start = [np.ones((3, 2)), np.zeros(2)]
    ends = []
    for accumulate in (1, 2, 3):
        rows = Input((3,))
        model = Model(rows, Lambda(lambda y: jnp.mean(y**2))(Dense(2)(rows)))
        model.set_weights(start)
        model.compile(
            "sgd", lambda y_true, y_pred: y_pred, accumulate=accumulate, devices=jax.devices()[:1]
        )
        with warnings.catch_warnings(record=True) as said:
            model.fit(x, np.zeros(20), batch_size=8, epochs=2, shuffle=False, verbose=0)
        # Of batches of 8 and of 4, three parts are too many for either.
        assert ["8 rows is taken whole" in str(one.message) for one in said] == (
            [True] if accumulate == 3 else []
        )
        ends.append(flat(model.get_weights()))
    assert np.abs(ends[0] - flat(start)).max() > 0.01
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=1e-5, atol=1e-7)


def make_line(**options) -> Model:
    rows = Input((3,))
    model = Model(rows, Dense(2)(rows))
    model.set_weights([np.ones((3, 2)), np.zeros(2)])
    options = {"weighted_metrics": ["mae"], "devices": jax.devices()[:1]} | options
    model.compile("sgd", "mse", ["mae"], **options)
    return model


@pytest.mark.parametrize(("devices", "accumulate"), [(1, 2), (1, 5), (8, 3)])
def test_rows_that_weigh_differently(devices, accumulate):
    """Batches of 11 and 9 rows, some of which weigh nothing, in parts of different weight."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(20, 3)), generator.normal(size=(20, 2))
    weights = np.where(np.arange(20) % 3, generator.uniform(0, 4, 20), 0)
    models = make_line(), make_line(accumulate=accumulate, devices=jax.devices()[:devices])
    ends = [
        model.fit(x, y, 11, epochs=2, shuffle=False, sample_weight=weights, verbose=0).history
        for model in models
    ]
    for name, values in ends[0].items():
        np.testing.assert_allclose(ends[1][name], values, rtol=1e-5)
    one, parts = (flat(model.get_weights()) for model in models)
    np.testing.assert_allclose(parts, one, rtol=1e-5, atol=1e-7)


def test_a_part_that_is_not_finite_refuses_the_step():
    x, y = np.ones((24, 3), np.float32), np.zeros((24, 2), np.float32)
    x[13] = np.inf  # of the second batch's second part
    model = make_line(accumulate=2)
    with pytest.warns(UserWarning, match="the loss of step 1"):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert np.isfinite(flat(model.get_weights())).all()


@pytest.mark.parametrize("parts", [0, -2, True, 2.0, "2", None])
def test_no_number_of_parts(parts):
    with pytest.raises(ValueError, match="accumulate is a whole number, 1 or more; found"):
        make_line(accumulate=parts)


def test_masks_are_not_taken_in_parts():
    steps = Input((5, 2))
    model = Model(steps, Dense(1)(Masking()(steps)))
    model.compile("sgd", "mse", accumulate=2)
    with pytest.raises(ValueError, match=r"compile\(accumulate=2\) with a mask"):
        model.fit(np.ones((4, 5, 2)), np.ones((4, 5, 1)), verbose=0)
