"""What Keras 2.3 does with its arguments, beyond the golden runs: sentence by sentence."""

import jax
import numpy as np
import pytest

from yolo_jax import Input, Lambda, Model, Sequence
from yolo_jax.callbacks import Callback, LambdaCallback
from yolo_jax.layers import Dense, Masking

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = X[:, :1] - X[:, 1:2]


class Rows:
    """A data source of some arrays' rows: alone, or several as a tuple."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, index):
        rows = tuple(array[index] for array in self.arrays)
        return rows if len(rows) > 1 else rows[0]


class Batches(Sequence):
    """X and Y in batches of 4, with a record of what was asked for."""

    def __init__(self):
        self.seen = []

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.seen.append(index)
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]

    def on_epoch_end(self):
        self.seen.append("end")


def make(loss="mse", *, tensor=None, **options) -> Model:
    """Returns a model of one layer, its weights always the same."""
    x = Input((4,), name="x", tensor=tensor)
    model = Model(x, Dense(1, name="out")(x))
    model.compile("sgd", loss, devices=jax.devices()[:1], **options)
    model.set_weights([np.full((4, 1), 0.1), np.zeros(1)])
    return model


def make_two(**options) -> Model:
    x = Input((4,), name="x")
    model = Model(x, [Dense(1, name="p")(x), Dense(1, name="q")(x)])
    model.compile("sgd", **({"loss": "mse", "devices": jax.devices()[:1]} | options))
    model.set_weights([np.full((4, 1), 0.1), np.zeros(1)] * 2)
    return model


def forever(x=X, y=Y):
    while True:
        yield x, y


def weights(model):
    return np.concatenate([array.ravel() for array in model.get_weights()])


def half_error(y_true, y_pred):
    return abs(y_true - y_pred)[:, 0] / 2


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"metrics": ["MSE", "mae"]}, "loss p_loss q_loss p_MSE p_mae q_MSE q_mae"),
        ({"metrics": [["mse"], ["mae"]]}, "loss p_loss q_loss p_mse q_mae"),
        ({"metrics": {"q": "acc"}}, "loss p_loss q_loss q_acc"),
        (
            {"metrics": {"q": ["accuracy", half_error]}},
            "loss p_loss q_loss q_accuracy q_half_error",
        ),
        (
            {"metrics": {"p": "mae"}, "weighted_metrics": {"p": "mae"}},
            "loss p_loss q_loss p_mae p_mae_1",
        ),
    ],
)
def test_log_names(options, names):
    model = make_two(**options)
    assert model.metrics_names == names.split()
    history = model.fit(X, [Y, Y], validation_split=0.25, verbose=0).history
    assert set(history) == {p + name for name in names.split() for p in ("", "val_")}


def test_a_loss_dict_may_lack_an_output():
    """Which has no target then, and is not trained."""
    with pytest.warns(UserWarning, match="Output q missing from loss dictionary"):
        model = make_two(loss={"p": "mse"}, metrics={"p": "mae"})
    before = model.get_layer("q").get_weights()
    for y in (Y, [Y], {"p": Y}):
        history = model.fit(X, y, verbose=0).history
    assert set(history) == {"loss", "p_loss", "p_mae"}
    np.testing.assert_array_equal(before[0], model.get_layer("q").get_weights()[0])


def test_loss_weights_that_a_dict_lacks_are_1():
    model = make_two(loss_weights={"q": 3})
    loss, p, q = model.evaluate(X, [Y, 2 * Y])
    assert loss == pytest.approx(p + 3 * q, rel=1e-6)


def test_weights_of_one_output_of_several():
    model, full = make_two(), make_two()
    w = np.linspace(0, 2, 12)
    for given in ({"q": w}, [None, w]):
        assert model.evaluate(X, [Y, Y], sample_weight=given) == pytest.approx(
            full.evaluate(X, [Y, Y], sample_weight=[np.ones(12), w])
        )
    model.fit(X, [Y, Y], sample_weight={"q": w}, validation_split=0.5, verbose=0, shuffle=False)
    full.fit(X[:6], [Y[:6], Y[:6]], sample_weight=[None, w[:6]], verbose=0, shuffle=False)
    np.testing.assert_allclose(weights(model), weights(full), rtol=1e-6)


def test_steps_that_a_mask_leaves_out_do_not_count():
    """Neither in the loss nor in its count: as later Kerases, where 2.3 divides by all steps."""
    steps = np.random.default_rng(1).normal(size=(6, 5, 3)).astype(np.float32)
    steps[1, 2:] = 0
    kept = (steps != 0).any(-1)
    x = Input((5, 3), name="x")
    model = Model(x, Dense(2)(Masking()(x)))
    model.compile("sgd", "mse", metrics=["mae"], devices=jax.devices()[:1])
    errors, w = model.predict(steps) - 1, np.linspace(0, 2, 6)
    squares = (errors**2).mean(-1)
    loss, mae = model.evaluate(steps, np.ones((6, 5, 2)), sample_weight=w)
    assert loss == pytest.approx((squares * kept * w[:, None]).sum() / kept.sum(), rel=1e-5)
    assert mae == pytest.approx(abs(errors).mean(-1)[kept].mean(), rel=1e-5)


def test_class_weights_by_output():
    labels = (Y > 0).astype(np.float32)
    model, other = make_two(), make_two()
    model.fit(X, [labels, Y], class_weight={"p": {0: 1, 1: 3, 7: 9}}, verbose=0)
    other.fit(X, [labels, Y], sample_weight={"p": 1 + 2 * labels[:, 0]}, verbose=0)
    np.testing.assert_allclose(weights(model), weights(other), rtol=1e-6)


def test_each_step_takes_whole_arrays_where_steps_are_given():
    by_steps, by_epochs = make(), make()
    history = by_steps.fit(X, Y, steps_per_epoch=3, epochs=2, verbose=0)
    by_epochs.fit(X, Y, batch_size=12, epochs=6, shuffle=False, verbose=0)
    assert history.epoch == [0, 1]
    np.testing.assert_allclose(weights(by_steps), weights(by_epochs), rtol=1e-5)
    assert by_steps.evaluate(X, Y, steps=2) == pytest.approx(by_steps.evaluate(X, Y))
    np.testing.assert_allclose(by_steps.predict(X, steps=2), np.tile(by_steps.predict(X), (2, 1)))
    for call in (by_steps.evaluate, by_steps.fit):
        steps = {"steps": 2} if call == by_steps.evaluate else {"steps_per_epoch": 2}
        with pytest.raises(ValueError, match="batch_size has to be None; found 4"):
            call(X, Y, batch_size=4, verbose=0, **steps)


def test_no_epoch_left_calls_the_hooks_of_training_alone():
    called = []
    hooks = LambdaCallback(
        on_train_begin=lambda logs: called.append("begin"),
        on_epoch_begin=lambda epoch, logs: called.append("epoch"),
        on_train_end=lambda logs: called.append("end"),
    )
    history = make().fit(X, Y, epochs=3, initial_epoch=3, callbacks=[hooks], verbose=0)
    assert called == ["begin", "end"]
    assert (history.epoch, history.history) == ([], {})


def test_batches_are_shuffled_whole_and_the_rest_stays_last():
    def orders(model, shuffle):
        seen = []

        class See(Callback):
            def on_epoch_begin(self, epoch, logs=None):
                seen.append(model.run.feed._rows(epoch, 0).tolist())

        model.fit(X, Y, batch_size=5, epochs=3, shuffle=shuffle, callbacks=[See()], verbose=0)
        return seen

    for order in orders(make(), "batch"):
        assert sorted([order[:5], order[5:10]]) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
        assert order[10:] == [10, 11]
    assert orders(make(), False) == [list(range(12))] * 3
    rows = orders(make(), True)
    assert rows[0] != rows[1]
    assert rows == orders(make(), 1)
    x = Input((4,), name="x")
    other = Model(x, Dense(1, name="out")(x), seed=1)
    other.compile("sgd", "mse")
    assert orders(other, True) != rows


def test_a_second_fit_has_a_fresh_history():
    model = make()
    first = model.fit(X, Y, epochs=2, verbose=0)
    second = model.fit(X, Y, epochs=3, initial_epoch=2, verbose=0)
    assert (first.epoch, second.epoch) == ([0, 1], [2])
    assert model.history is second
    assert second.history["loss"][0] < first.history["loss"][0]


def test_validation_data_stand_over_a_split():
    history = make().fit(
        X, Y, validation_split=0.5, validation_data=(X[:1], Y[:1]), shuffle=False, verbose=0
    ).history  # fmt: skip
    assert history["loss"] == [pytest.approx(make().evaluate(X, Y))]


@pytest.mark.parametrize("x", [X, None])
def test_arrays_are_validated_whole_whatever_the_steps(x):
    model = make()
    data = {"x": forever(), "y": None} if x is None else {"x": X, "y": Y}
    held_out = (X[::-1], Y[::-1] + 1)
    history = model.fit(
        **data, steps_per_epoch=2, validation_data=held_out, validation_steps=3, verbose=0
    )
    assert history.history["val_loss"] == [pytest.approx(model.evaluate(*held_out), rel=1e-6)]


def test_validation_generators_go_on_over_epochs():
    asked = []

    def held_out():
        for number in range(100):
            asked.append(number)
            yield X + number, Y

    history = make().fit(
        X, Y, epochs=3, validation_data=held_out(), validation_steps=2, verbose=0, workers=0
    )
    assert len(history.history["val_loss"]) == 3
    assert asked == [0, 1, 2, 3, 4, 5]


def test_a_sequence_learns_of_each_pass_after_the_callbacks():
    data, held_out = Batches(), Batches()
    after = LambdaCallback(on_epoch_end=lambda epoch, logs: data.seen.append("callbacks"))
    make().fit(data, epochs=2, validation_data=held_out, callbacks=[after], verbose=0, workers=0)
    assert data.seen == [0, 1, 2, "callbacks", "end"] * 2
    assert held_out.seen == [0, 1, 2, "end"] * 2


def test_an_epoch_starts_with_what_the_last_one_left_of_a_sequence():
    data = Batches()
    make().fit(data, epochs=3, steps_per_epoch=2, verbose=0, workers=0)
    assert data.seen == [0, 1, 2, "end", 0, 1, 2, "end"]


def test_evaluating_and_predicting_take_one_pass_of_a_sequence():
    model, data = make(), Batches()
    assert model.evaluate(data, workers=0) == pytest.approx(model.evaluate(X, Y))
    np.testing.assert_allclose(model.predict(data, workers=0), model.predict(X), rtol=1e-6)
    assert data.seen == [0, 1, 2, "end"] * 2
    assert model.evaluate_generator(forever(), 2) == pytest.approx(model.evaluate(X, Y))
    assert model.predict_generator(iter([X, X]), 2).shape == (24, 1)
    with pytest.warns(UserWarning, match="ran out of data after 1 of 2 batches"):
        assert model.predict(iter([X]), steps=2).shape == (12, 1)


def test_a_batch_may_be_a_list():
    assert make().fit(([X, Y] for _ in range(1)), steps_per_epoch=1, verbose=0).epoch == [0]


def test_return_shapes():
    one, two = make(), make_two(metrics={"p": "mae"})
    assert isinstance(one.evaluate(X, Y), float)
    assert isinstance(one.train_on_batch(X, Y), float)
    assert len(two.evaluate(X, [Y, Y])) == len(two.metrics_names) == 4
    assert list(two.test_on_batch(X, [Y, Y], return_dict=True)) == two.metrics_names
    assert one.predict(X).shape == (12, 1)
    assert [o.shape for o in two.predict_on_batch(X)] == [(12, 1)] * 2


def test_a_scalar_output_is_repeated_for_each_row():
    x = Input((4,), name="x")
    model = Model(x, Lambda(lambda a: a.mean(), output_shape=(1,), name="mean")(x))
    np.testing.assert_allclose(model.predict(X, batch_size=12), np.full(12, X.mean()), rtol=1e-5)


def test_metrics_of_single_batches_add_up_until_they_are_reset():
    """The loss is each batch's own; the reset comes after the call that asks for it."""
    model = make(metrics=["mae"])
    first, second = (X[:4], Y[:4]), (X[4:], Y[4:])
    (loss_1, mae_1), (loss_2, mae_2) = (model.test_on_batch(*batch) for batch in (first, second))
    both = [loss_2, (4 * mae_1 + 8 * mae_2) / 12]
    assert model.test_on_batch(*first, reset_metrics=False) == pytest.approx([loss_1, mae_1])
    assert model.test_on_batch(*second) == pytest.approx(both)
    assert model.test_on_batch(*first, reset_metrics=False) == pytest.approx([loss_1, mae_1])
    model.reset_metrics()
    assert model.test_on_batch(*second) == pytest.approx([loss_2, mae_2])


@pytest.mark.parametrize(
    ("tensor", "targets", "steps"),
    [
        (X, Y, 3),
        (X, [Y], 3),
        (X, {"out": Y}, 3),
        (Rows(X, Y), None, 3),
        (Rows(X), Y, 3),
        (X, Rows(Y), 3),
        (Rows(X), {"out": Rows(Y)}, 3),
    ],
)
def test_inputs_and_targets_that_the_model_brings(tensor, targets, steps):
    model, plain = make(tensor=tensor, target_tensors=targets), make()
    arguments = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    history, expected = model.fit(**arguments), plain.fit(X, Y, **arguments)
    assert history.history["loss"] == pytest.approx(expected.history["loss"])
    assert int(model.state.step) == 2 * steps
    assert model.evaluate(batch_size=4) == pytest.approx(plain.evaluate(X, Y))
    np.testing.assert_allclose(model.predict(), plain.predict(X), rtol=1e-5)


def test_a_tensor_without_a_length_is_one_step():
    model = make(tensor=forever())
    model.fit(epochs=2, verbose=0)
    assert int(model.state.step) == 2


def test_an_input_of_fixed_batch_size_says_how_arrays_are_cut():
    x = Input((4,), batch_size=4, name="x")
    model = Model(x, Dense(1)(x))
    model.compile("sgd", "mse", devices=jax.devices()[:1])
    model.fit(X, Y, verbose=0)
    assert int(model.state.step) == 3
    with pytest.raises(ValueError, match="batch_size=4; found batch_size=3"):
        model.fit(X, Y, batch_size=3, verbose=0)


def test_nb_epoch_is_epochs():
    with pytest.warns(UserWarning, match="`nb_epoch` argument has been renamed `epochs`") as seen:
        assert make().fit(X, Y, nb_epoch=3, verbose=0).epoch == [0, 1, 2]
        assert make().fit_generator(forever(), 1, nb_epoch=2, verbose=0).epoch == [0, 1]
    assert [warning.filename for warning in seen] == [__file__] * 2
