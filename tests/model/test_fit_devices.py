"""`fit` over several devices: batches that do and do not divide among them, and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small_detector import Stream, flat, make_batches, make_model, one_row

from yolo_jax import Input, Model
from yolo_jax.core.types import Batch
from yolo_jax.model.graph import apply


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
    assert {shared for _, shared, _ in eight.require_compiled()._steps} == {True}
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
    steps = set(eight.require_compiled()._steps)
    assert steps == {("train", True, None), ("train in turn", True, None), ("train", False, None)}
    np.testing.assert_allclose(flat(one.state.params), flat(eight.state.params), rtol=1e-5)


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
