import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from yolo_jax.training.optimizers import (
    build_optimizer,
    learning_rate_schedule,
    trainable_mask,
)

PARAMS = {"body": {"kernel": jnp.full(2, 2.0), "bias": jnp.full(2, 2.0)}}


def test_cosine_after_a_warm_up_and_flat_past_its_end():
    rate = learning_rate_schedule(
        "cosine", 0.1, total_steps=110, warmup_steps=10, final_fraction=0.01
    )
    assert rate(0) == 0
    assert rate(5) == pytest.approx(0.05)
    assert rate(10) == pytest.approx(0.1)
    assert rate(60) == pytest.approx(0.1 * (0.5 + 0.5 * 0.01), rel=1e-5)
    assert rate(110) == rate(500) == pytest.approx(0.001, rel=1e-5)
    with pytest.raises(ValueError, match="10 steps cannot have a warm-up of 11"):
        learning_rate_schedule("cosine", 0.1, total_steps=10, warmup_steps=11)


def test_steps_behind_shares_of_the_whole():
    """As darknet's yolov3.cfg: steps=400000,450000 and scales=.1,.1 of 500200."""
    rate = learning_rate_schedule(
        "step", 0.1, total_steps=1000, warmup_steps=100, step_at=(0.8, 0.9), step_factor=0.1
    )
    found = [rate(step) for step in (50, 100, 799, 800, 899, 900, 2000)]
    np.testing.assert_allclose(found, [0.05, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)
    twice = learning_rate_schedule("step", 0.1, total_steps=5, step_at=(0.5, 0.5, 0.0))
    np.testing.assert_allclose([twice(1), twice(4)], [0.01, 0.0001], rtol=1e-5)
    within = learning_rate_schedule(
        "step", 1.0, total_steps=100, warmup_steps=30, step_at=(0.1, 0.2, 0.9)
    )
    np.testing.assert_allclose([within(31), within(95)], [0.01, 0.001], rtol=1e-5)


# Nesterov's momentum looks one step ahead: 1 + 0.9 times the decay.
@pytest.mark.parametrize(
    ("kind", "update"),
    [("adamw", 0.1 * 2), ("sgd", 1.9 * 0.1 * 2), ("lion", 0.1 * 2), ("muon", 0.2)],
)
def test_only_kernels_decay(kind, update):
    params = {"body": {"kernel": jnp.full((1, 1, 1, 2), 2.0), "bias": jnp.full(2, 2.0)}}
    optimizer = build_optimizer(kind, optax.constant_schedule(0.5), weight_decay=0.1)
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(nothing, optimizer.init(params), params)
    np.testing.assert_allclose(updates["body"]["kernel"], -0.5 * update, rtol=1e-5)
    np.testing.assert_array_equal(updates["body"]["bias"], 0)


def test_muons_updates_of_kernels_are_orthogonal_and_of_adams_size():
    params = {"kernel": jnp.ones((3, 3, 16, 8)), "bias": jnp.ones(8)}
    grads = {
        "kernel": jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 16, 8)), jnp.float32),
        "bias": jnp.linspace(-1, 1, 8),
    }
    optimizer = build_optimizer("muon", optax.constant_schedule(0.5))
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    values = np.linalg.svd(np.asarray(updates["kernel"]).reshape(-1, 8), compute_uv=False)
    # Newton and Schulz's steps end between 0.7 and 1.2 of one value; 0.2 is the mean square's root.
    assert values.max() / values.min() < 1.8
    root = np.sqrt((np.asarray(updates["kernel"]) ** 2).mean())
    assert 0.5 * 0.2 * 0.7 < root < 0.5 * 0.2 * 1.2
    # The bias by Adam, which looks a step ahead here: both bias-corrected moments of one gradient.
    ahead = 0.9 * 0.1 / (1 - 0.9**2) + 1
    np.testing.assert_allclose(updates["bias"], -0.5 * ahead * np.sign(grads["bias"]), rtol=1e-4)


def test_lions_update_is_a_sign():
    optimizer = build_optimizer("lion", optax.constant_schedule(0.5))
    grads = {"body": {"kernel": jnp.array([0.1, -3.0]), "bias": jnp.array([2.0, -0.5])}}
    updates, _ = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["body"]["kernel"], [-0.5, 0.5])
    np.testing.assert_allclose(updates["body"]["bias"], [-0.5, 0.5])


def test_the_gradient_is_clipped_by_its_norm():
    optimizer = build_optimizer("sgd", optax.constant_schedule(1.0), momentum=0.0, clip_norm=1.0)
    grads = {"body": {"kernel": jnp.full(2, 3.0), "bias": jnp.full(2, 4.0)}}
    updates, _ = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
    assert optax.tree.norm(updates) == pytest.approx(1, rel=1e-6)


def test_a_settable_rate_lies_in_the_state_and_the_schedule_is_its_share():
    warmup = learning_rate_schedule("constant", 1.0, total_steps=9, warmup_steps=2)
    optimizer = build_optimizer("sgd", warmup, momentum=0.0, settable_rate=0.5)
    state, updates = optimizer.init({"a": jnp.ones(())}), []
    for step in range(4):
        if step == 3:  # as `model.optimizer.lr = 0.1` does
            injected = state[-1]
            assert float(injected.hyperparams["learning_rate"]) == 0.5
            lowered = injected.hyperparams | {"learning_rate": jnp.asarray(0.1)}
            state = (*state[:-1], injected._replace(hyperparams=lowered))
        update, state = optimizer.update({"a": jnp.ones(())}, state, {"a": jnp.ones(())})
        updates.append(float(update["a"]))
    np.testing.assert_allclose(updates, [0, -0.25, -0.5, -0.1], rtol=1e-6)


def test_patterns_choose_what_is_frozen():
    assert trainable_mask(PARAMS, ["body/k*"]) == {"body": {"kernel": False, "bias": True}}
    with pytest.raises(ValueError, match="'head/\\*' matches no parameter"):
        trainable_mask(PARAMS, ["head/*"])
    with pytest.raises(ValueError, match="leaves no parameter to train"):
        trainable_mask(PARAMS, ["*"])


def test_lars_and_lamb_scale_kernels_by_their_norms():
    params = {"kernel": jnp.full(4, 3.0), "bias": jnp.full(4, 3.0)}
    grads = {"kernel": jnp.full(4, 0.5), "bias": jnp.full(4, 0.5)}

    def first_update(kind):
        optimizer = build_optimizer(kind, optax.constant_schedule(0.1), momentum=0.9)
        return optimizer.update(grads, optimizer.init(params), params)[0]

    # LARS: 0.1 x 0.001 x |w| / |g| x g, and the plain gradient for the bias.
    lars = first_update("lars")
    np.testing.assert_allclose(lars["kernel"], -0.1 * 1e-3 * (6.0 / 1.0) * 0.5, rtol=1e-5)
    np.testing.assert_allclose(lars["bias"], -0.05, rtol=1e-5)
    # LAMB: Adam's first update is the sign, whose norm is 2; times |w| = 6.
    np.testing.assert_allclose(first_update("lamb")["kernel"], -0.1 * 3.0, rtol=1e-4)
