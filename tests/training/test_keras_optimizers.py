import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from yolo_jax.training import keras_optimizers
from yolo_jax.training.keras_optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    Nadam,
    RMSprop,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "keras"
MAKERS = (SGD, Adam, RMSprop, Adagrad, Adadelta, Adamax, Nadam)


def run(optimizer, grads, param=1.0):
    """Returns the parameter after each of these gradients, and the last state."""
    params = jnp.asarray(param)
    state, path = optimizer.init(params), []
    for grad in grads:
        updates, state = optimizer.update(jnp.asarray(grad), state, params)
        params = optax.apply_updates(params, updates)
        path.append(np.asarray(params))
    return np.asarray(path), state


def forward(params, x):
    hidden = jnp.tanh(x @ params["hid"]["kernel"] + params["hid"]["bias"])
    return hidden @ params["out"]["kernel"] + params["out"]["bias"]


@pytest.mark.parametrize("case", ["sgd", "momentum", "nesterov", "adam", "adam_eps"])
def test_golden_runs_of_a_small_network(case):
    """Losses of every epoch, validation and final weights, as Keras's own run has them."""
    told = json.loads((GOLDEN / f"01_mlp_{case}.json").read_text())
    arrays = np.load(GOLDEN / f"01_mlp_{case}.npz")
    arguments = told["compile"]["optimizer"]
    maker = {"sgd": SGD, "adam": Adam}[arguments.pop("name")]
    optimizer = optax.with_extra_args_support(maker(**arguments))
    params = {
        layer: {var: jnp.asarray(arrays[f"w0/{layer}/{var}"]) for var in ("kernel", "bias")}
        for layer in ("hid", "out")
    }
    state = optimizer.init(params)
    x, y, xv, yv = (jnp.asarray(arrays[f"data/{name}"]) for name in ("x", "y", "xv", "yv"))

    def loss_of(params, x, y):
        return jnp.square(forward(params, x) - y).mean()

    @jax.jit
    def step(params, state, x, y):
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        updates, state = optimizer.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state, loss

    for epoch, expected in enumerate(told["expected"]["history"]["loss"]):
        total = 0.0
        for start in range(0, len(x), told["fit"]["batch_size"]):
            rows = slice(start, start + told["fit"]["batch_size"])
            params, state, loss = step(params, state, x[rows], y[rows])
            total += float(loss) * len(x[rows])
        assert total / len(x) == pytest.approx(expected, rel=1e-5, abs=1e-5)
        validated = told["expected"]["history"]["val_loss"][epoch]
        assert float(loss_of(params, xv, yv)) == pytest.approx(validated, rel=1e-5, abs=1e-5)
    for layer, variables in params.items():
        for var, value in variables.items():
            np.testing.assert_allclose(
                value, arrays[f"w_final/{layer}/{var}"], rtol=1e-5, atol=1e-5
            )


def test_velocity_keeps_the_rate_it_was_made_at():
    """0.1·2 = 0.2 down; then the rate falls to 0.01: 0.9·0.2 + 0.01·2 = 0.2 down again."""
    optimizer = SGD(0.1, momentum=0.9)
    params = jnp.asarray(1.0)
    state = optimizer.init(params)
    updates, state = optimizer.update(jnp.asarray(2.0), state, params)
    assert float(updates) == pytest.approx(-0.2)
    state.hyperparams["learning_rate"] = jnp.asarray(0.01)
    updates, state = optimizer.update(jnp.asarray(2.0), state, params)
    assert float(updates) == pytest.approx(-0.2)


def keras_reference(name, grads):
    """Keras 2.3's formulas with its defaults, in float64 on one number."""
    w, a, b, m, v, product, path = 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, []
    for t, g in enumerate(grads, start=1):
        match name:
            case "RMSprop":
                a = 0.9 * a + 0.1 * g * g
                w -= 0.001 * g / (a**0.5 + 1e-7)
            case "Adagrad":
                a += g * g
                w -= 0.01 * g / (a**0.5 + 1e-7)
            case "Adadelta":
                a = 0.95 * a + 0.05 * g * g
                step = g * (b + 1e-7) ** 0.5 / (a + 1e-7) ** 0.5
                w -= step
                b = 0.95 * b + 0.05 * step * step
            case "Adamax":
                m = 0.9 * m + 0.1 * g
                v = max(0.999 * v, abs(g))
                w -= 0.002 / (1 - 0.9**t) * m / (v + 1e-7)
            case "Nadam":
                now = 0.9 * (1 - 0.5 * 0.96 ** (t * 0.004))
                later = 0.9 * (1 - 0.5 * 0.96 ** ((t + 1) * 0.004))
                product *= now
                m = 0.9 * m + 0.1 * g
                v = 0.999 * v + 0.001 * g * g
                mean = (1 - now) * g / (1 - product) + later * m / (1 - product * later)
                w -= 0.002 * mean / ((v / (1 - 0.999**t)) ** 0.5 + 1e-7)
            case "Adam":
                m = 0.9 * m + 0.1 * g
                v = 0.999 * v + 0.001 * g * g
                a = max(a, v)
                w -= 0.001 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m / (a**0.5 + 1e-7)
        path.append(w)
    return path


@pytest.mark.parametrize("maker", [RMSprop, Adagrad, Adadelta, Adamax, Nadam])
def test_formulas_on_one_number(maker):
    grads = [2.0, -1.0, 0.5, 0.0, 3.0, -0.25]
    path, _ = run(maker(), grads)
    np.testing.assert_allclose(path, keras_reference(maker.__name__, grads), rtol=2e-6)


def test_amsgrad_divides_by_the_largest_mean_square():
    grads = [2.0] + [0.01] * 5
    path, _ = run(Adam(amsgrad=True), grads)
    np.testing.assert_allclose(path, keras_reference("Adam", grads), rtol=2e-6)
    plain, _ = run(Adam(beta_2=0.5), grads)
    largest, _ = run(Adam(beta_2=0.5, amsgrad=True), grads)
    assert largest[-1] > plain[-1]


@pytest.mark.parametrize("maker", MAKERS)
def test_learning_rate_is_read_and_set_without_compiling_anew(maker):
    optimizer = maker(lr=np.float32(0.25))
    params = {"a": jnp.ones(3), "frozen": None}
    state = optimizer.init(params)
    compiled = 0

    @jax.jit
    def update(grads, state, params):
        nonlocal compiled
        compiled += 1
        return optimizer.update(grads, state, params)

    grads = {"a": jnp.asarray([1.0, -1.0, 0.0]), "frozen": None}
    updates, after = update(grads, state, params)
    assert float(after.hyperparams["learning_rate"]) == 0.25
    assert updates["frozen"] is None
    state.hyperparams["learning_rate"] = np.float32(0.125)
    halved, _ = update(grads, state, params)
    np.testing.assert_allclose(halved["a"], updates["a"] / 2, rtol=1e-6)
    assert np.isfinite(updates["a"]).all()
    assert compiled == 1
    assert int(after.inner_state.iterations) == 1


def test_decay_lowers_the_rate_from_the_second_update():
    path, state = run(SGD(lr=1.0, decay=1.0), [1.0, 1.0, 1.0], param=0.0)
    np.testing.assert_allclose(np.diff([0, *path]), [-1, -1 / 2, -1 / 3], rtol=1e-6)
    assert float(state.hyperparams["learning_rate"]) == 1.0


def test_learning_rate_by_a_schedule():
    schedule = optax.piecewise_constant_schedule(1.0, {2: 0.1})
    path, state = run(SGD(schedule), [1.0] * 3, param=0.0)
    np.testing.assert_allclose(np.diff([0, *path]), [-1, -1, -0.1], rtol=1e-6)
    assert float(state.hyperparams["learning_rate"]) == pytest.approx(0.1)


def test_clipping():
    grads = {"a": jnp.asarray([3.0, 4.0]), "b": jnp.asarray([0.0, 0.5]), "c": jnp.zeros(1)}
    step = partial(jax.tree.map, jnp.negative)

    def updates(**options):
        optimizer = SGD(1.0, **options)
        return step(optimizer.update(grads, optimizer.init(grads), grads)[0])

    # Keras 2.3's get_gradients: by the norm of all gradients together.
    together = updates(clipnorm=1.0)
    norm = np.sqrt(3**2 + 4**2 + 0.5**2)
    np.testing.assert_allclose(together["a"], np.array([3, 4]) / norm, rtol=1e-6)
    np.testing.assert_allclose(together["b"], np.array([0, 0.5]) / norm, rtol=1e-6)
    np.testing.assert_allclose(together["c"], 0)
    np.testing.assert_allclose(updates(clipvalue=2.0)["a"], [2, 2])
    np.testing.assert_allclose(updates(clipnorm=10.0)["a"], [3, 4])
    with pytest.raises(TypeError, match="global_clipnorm"):
        SGD(global_clipnorm=1.0)


def test_names():
    assert keras_optimizers.get("adam").init(jnp.ones(1)).hyperparams["learning_rate"] == 0.001
    assert keras_optimizers.get("SGD").init(jnp.ones(1)).hyperparams["learning_rate"] == 0.01
    own = optax.adam(1e-3)
    assert keras_optimizers.get(own) is own
    with pytest.raises(ValueError, match="Unknown optimizer:nope; known are sgd, adam"):
        keras_optimizers.get("nope")
    with pytest.raises(TypeError, match=r"call it: Adam\(\)"):
        keras_optimizers.get(Adam)
    with pytest.raises(TypeError, match="a name or an optax transformation"):
        keras_optimizers.get(3)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Adam(learning_rat=1), TypeError, "learning_rat"),
        (
            lambda: Adam("fast"),
            ValueError,
            "learning_rate is a finite number, 0 or more; found 'fast'",
        ),
        (lambda: SGD(-1.0), ValueError, "learning_rate is a finite number, .*found -1"),
        (lambda: SGD(momentum=2.0), ValueError, "momentum is a .* from 0 to 1; found 2"),
        (lambda: SGD(decay=-0.1), ValueError, "decay is a .*, 0 or more"),
        (lambda: SGD(clipnorm=float("nan")), ValueError, "clipnorm is a .*, 0 or more"),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()
