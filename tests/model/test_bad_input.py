"""What does not fit is refused before a step is taken, in words that say what to do."""

import numpy as np
import pytest

import yolo_jax
from yolo_jax import Input, Model, Sequence, losses
from yolo_jax.callbacks import EarlyStopping
from yolo_jax.layers import Dense

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = X[:, :1]
ONE_HOT = np.eye(3, dtype=np.float32)[np.arange(12) % 3]


@pytest.fixture(scope="module")
def one():
    x = Input((4,), name="x")
    model = Model(x, Dense(1, name="out")(x))
    model.compile("sgd", "mse")
    return model


@pytest.fixture(scope="module")
def classes():
    x = Input((4,), name="x")
    model = Model(x, Dense(3, activation="softmax", name="out")(x))
    model.compile("sgd", "categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def two():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    model = Model([a, b], [Dense(1, name="p")(a), Dense(1, name="q")(b)])
    model.compile("sgd", "mse")
    return model


@pytest.fixture(scope="module")
def steps():
    x = Input((5, 4), name="x")
    model = Model(x, Dense(3, activation="softmax", name="out")(x))
    model.compile("sgd", "categorical_crossentropy")
    return model


def forever():
    while True:
        yield X[:4], Y[:4]


class Rows:
    """A data source of some arrays' rows."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, index):
        return tuple(array[index] for array in self.arrays)


class Broken(Sequence):
    def __len__(self):
        return 0

    def __getitem__(self, index):
        raise AssertionError


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"y": Y[:7]}, ValueError, r"same number of samples; found \[7, 12\]"),
        ({"x": {"z": X}}, ValueError, r"\['z'\] are no input names; the model's are \['x'\]"),
        ({"y": {"nope": Y}}, ValueError, r"\['nope'\] are no output names"),
        ({"x": [X, X]}, ValueError, "the model has 1 inputs .x.; found 2 arrays"),
        ({"y": None}, ValueError, "No data provided for 'out': y is None"),
        ({"x": None}, ValueError, r"x is None, and the inputs \['x'\] bring no tensor"),
        ({"x": [None]}, ValueError, "No data provided for 'x'"),
        ({"x": X[:, :3]}, ValueError, r"input 'x' takes arrays of shape .rows, 4.; found .12, 3."),
        ({"y": X}, ValueError, r"output 'out' takes arrays of shape .rows, 1.; found .12, 4."),
        ({"batch_size": 0}, ValueError, "batch_size is a whole number, 1 or more; found 0"),
        ({"batch_size": 4.5}, ValueError, "batch_size is a whole number, 1 or more; found 4.5"),
        ({"epochs": 1.5}, ValueError, "epochs is a whole number, 0 or more; found 1.5"),
        ({"initial_epoch": -1}, ValueError, "initial_epoch is a whole number, 0 or more"),
        ({"validation_split": 1.5}, ValueError, "validation_split is 1.5; it has to lie between"),
        ({"validation_split": -0.1}, ValueError, "validation_split is -0.1"),
        ({"validation_split": 0.99}, ValueError, "leave rows of the 12 on both sides"),
        ({"validation_data": X}, ValueError, "validation_data is .x, y. or .x, y, sample_weight."),
        ({"validation_split": 1.0}, ValueError, "validation_split is 1.0; it has to lie between"),
        ({"validation_data": (X, Y[:3])}, ValueError, r"samples; found \[3, 12\]"),
        ({"validation_data": (X[:, :3], Y)}, ValueError, "input 'x' takes .*; found .12, 3."),
        ({"validation_data": (X, X)}, ValueError, "output 'out' takes .*; found .12, 4."),
        ({"validation_data": (X, Y, np.ones(3))}, ValueError, r"samples; found \[3, 12\]"),
        ({"validation_data": (X, Y), "validation_steps": 2}, ValueError, "needs steps_per_epoch"),
        ({"batch_size": 4, "steps_per_epoch": 2}, ValueError, "batch_size has to be None; found 4"),
        ({"validation_data": (X, Y), "validation_freq": 0}, ValueError, "has to be 1 or more"),
        ({"validation_data": (X, Y), "validation_freq": 1.5}, ValueError, "found 1.5"),
        ({"validation_data": forever()}, ValueError, "`validation_steps` has to say"),
        ({"class_weight": [1, 2]}, TypeError, "class_weight is a dict .* by class id.*found list"),
        (
            {"class_weight": {"cat": 1}},
            ValueError,
            r"has the keys \['cat'\]; those of output 'out'",
        ),
        ({"sample_weight": np.full(12, "a")}, TypeError, "are no numbers: they have the dtype <U1"),
        ({"sample_weight": np.ones(3)}, ValueError, r"samples; found \[3, 12\]"),
        ({"sample_weight": np.ones((12, 2))}, ValueError, "need compile.sample_weight_mode='tempo"),
        ({"callbacks": [EarlyStopping]}, TypeError, "the class EarlyStopping: make one"),
        ({"callbacks": [print]}, TypeError, "callbacks must hold Callback objects; found"),
        ({"callbacks": EarlyStopping()}, TypeError, "callbacks must be a list"),
        ({"callbacks": 3}, TypeError, "callbacks must be a list; found int"),
        ({"nb_epochs": 3}, TypeError, "nb_epochs"),
        ({"shuffle": "rows"}, ValueError, "shuffle is True, False or 'batch'; found 'rows'"),
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch is a whole number, 1 or more"),
        ({"x": np.full((12, 4), "a")}, ValueError, "no array of numbers: it has the dtype <U1"),
        ({"x": forever(), "y": None}, ValueError, "`steps_per_epoch` has to say how many"),
        ({"x": forever, "y": None}, ValueError, "has to be called: generator()"),
        ({"x": forever()}, ValueError, "y cannot be given with a generator"),
        ({"x": forever(), "y": None, "batch_size": 4}, ValueError, "batch_size cannot be given"),
        (
            {"x": forever(), "y": None, "validation_split": 0.2, "steps_per_epoch": 1},
            ValueError,
            "validation_split takes the last rows of arrays; give validation_data with a generator",
        ),
        (
            {"x": iter(()), "y": None, "steps_per_epoch": 1},
            ValueError,
            "the data ended before the first batch",
        ),
        ({"x": Broken(), "y": None}, ValueError, "the data are empty: their len.. is 0"),
        ({"strict": True, "x": np.full_like(X, np.nan)}, ValueError, "input 'x'.*row 0.*nan"),
    ],
)
def test_fit_refuses(one, given, error, message):
    with pytest.raises(error, match=message):
        one.fit(**({"x": X, "y": Y, "verbose": 0} | given))
    assert int(one.state.step) == 0


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"x": {"a": X}}, ValueError, "No data provided for 'b'"),
        ({"x": {"a": X, "b": X, "c": X}}, ValueError, r"\['c'\] are no input names"),
        ({"y": [Y]}, ValueError, "2 outputs .p, q.; found 1 arrays"),
        ({"sample_weight": np.ones(12)}, TypeError, "sample_weight is a list or a dict by output"),
        ({"sample_weight": {"r": np.ones(12)}}, ValueError, "sample_weight names"),
        ({"sample_weight": [np.ones(12)]}, ValueError, "1 entries for 2 outputs"),
        ({"class_weight": {0: 1.0}}, ValueError, "class_weight is a dict by output name of dicts"),
    ],
)
def test_fit_of_two_outputs_refuses(two, given, error, message):
    with pytest.raises(error, match=message):
        two.fit(**({"x": [X, X], "y": [Y, Y], "verbose": 0} | given))
    assert int(two.state.step) == 0


def test_class_weights_cover_the_classes(classes, steps):
    with pytest.raises(ValueError, match=r"must contain all classes in the data: \[2\]"):
        classes.fit(X, ONE_HOT, class_weight={0: 1, 1: 1}, verbose=0)
    with pytest.raises(ValueError, match="does not serve the sequence targets"):
        steps.fit(np.zeros((12, 5, 4)), np.zeros((12, 5, 3)), class_weight={0: 1}, verbose=0)
    assert int(classes.state.step) == int(steps.state.step) == 0


def test_temporal_weights_are_of_rows_and_steps():
    x = Input((5, 4), name="x")
    model = Model(x, Dense(3, name="out")(x))
    model.compile("sgd", "mse", sample_weight_mode="temporal")
    with pytest.raises(ValueError, match=r"'temporal': its sample weights have the shape .samples"):
        model.fit(np.zeros((6, 5, 4)), np.zeros((6, 5, 3)), sample_weight=np.ones(6), verbose=0)
    with pytest.raises(ValueError, match="have 4 steps, its targets 5"):
        weight = np.ones((6, 4))
        model.fit(np.zeros((6, 5, 4)), np.zeros((6, 5, 3)), sample_weight=weight, verbose=0)
    for mode in ("times", ["temporal", None], {"nope": "temporal"}, 3):
        with pytest.raises(ValueError, match="sample_weight_mode is None or 'temporal'"):
            model.compile("sgd", "mse", sample_weight_mode=mode)


def test_temporal_weights_need_steps(two):
    with pytest.raises(ValueError, match="'q' has the shape .None, 1.: leave its mode None"):
        two.compile("sgd", "mse", sample_weight_mode={"q": "temporal"})


def test_nothing_trains_before_compile():
    x = Input((4,))
    model = Model(x, Dense(1)(x))
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(RuntimeError, match="You must compile"):
            call(X, Y)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"loss": None}, ValueError, "no loss to optimize"),
        ({"loss": "nope"}, ValueError, "Unknown loss function.*nope"),
        ({"loss": {"p": "mse", "r": "mse"}}, ValueError, r"Unknown entries in loss dict.*\['r'\]"),
        ({"loss": ["mse"]}, ValueError, "one entry for each output; found 1 for 2"),
        ({"loss_weights": [1.0]}, ValueError, "`loss_weights` has one entry for each output"),
        ({"loss_weights": {"r": 1}}, ValueError, "Unknown entries in loss_weights dictionary"),
        ({"loss_weights": 3}, TypeError, "Could not interpret loss_weights"),
        ({"metrics": ["nope"]}, ValueError, "nope"),
        ({"metrics": {"r": "mae"}}, ValueError, "Unknown entries in metrics dictionary"),
        ({"metrics": "mae"}, TypeError, "Type of `metrics` argument not understood"),
        ({"metrics": [3]}, TypeError, "3"),
        ({"optimizer": "nope"}, ValueError, "nope"),
        ({"optimizer": 3}, TypeError, "a name or an optax transformation; found 3"),
        ({"optimzer": "sgd"}, TypeError, "optimzer"),
    ],
)
def test_compile_refuses(two, given, error, message):
    with pytest.raises(error, match=message):
        two.compile(**({"optimizer": "sgd", "loss": "mse"} | given))


@pytest.mark.parametrize(
    ("third", "message"),
    [
        ((X, Y, np.ones(12)), "batch 2 .from 0. is of another structure than the first"),
        ((X[:, :3], Y), "batch 2 .from 0.: input 'x' takes arrays of shape .rows, 4.; found"),
        ((X, X), "batch 2 .from 0.: output 'out' takes arrays of shape .rows, 1.; found"),
        ((X.astype(int), Y), "batch 2 .from 0. is of another structure.*float32.*int64"),
        (({"z": X}, Y), r"batch 2 .from 0.: \['z'\] are no input names; the model's are \['x'\]"),
        ((X, Y[:5]), r"batch 2 .from 0.: all arrays .* same number of samples; found \[5, 12\]"),
        ((X,), "should be a tuple.*; batch 2 .from 0. is tuple of 1"),
        (3, "should be a tuple.*; batch 2 .from 0. is int"),
    ],
)
def test_a_batch_of_another_structure_is_named(one, third, message):
    """Before the step that would take it."""
    before = int(one.state.step)
    with pytest.raises(ValueError, match=message):
        one.fit(iter([(X, Y), (X, Y), third]), steps_per_epoch=3, verbose=0, workers=0)
    # The two before it were batches to train on.
    assert int(one.state.step) - before == 2


def test_a_generator_that_ends_early_warns_and_keeps_the_history(one):
    def batches():
        for _ in range(5):
            yield X[:4], Y[:4]

    with pytest.warns(UserWarning, match="Your input ran out of data; interrupting training"):
        history = one.fit(batches(), steps_per_epoch=3, epochs=4, verbose=0)
    assert history.epoch == [0, 1]
    assert len(history.history["loss"]) == 2
    assert one.history is history


def test_strict_names_the_row_that_is_no_number(one):
    x = X.copy()
    x[7, 2] = np.inf
    step = int(one.state.step)
    with pytest.raises(ValueError, match="input 'x'.*row 7"):
        one.fit(x, Y, strict=True, verbose=0)
    y = Y.copy()
    y[3] = np.nan
    with pytest.raises(ValueError, match="output 'out'.*row 3"):
        one.fit(X, y, strict=True, verbose=0)
    assert int(one.state.step) == step


@pytest.mark.parametrize("stream", [True, False])
def test_strict_names_the_batch_of_a_stream_before_its_step(one, stream):
    x = X.copy()
    x[9, 1] = np.nan
    before = int(one.state.step)
    if stream:
        given = {"x": ((x[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)), "steps_per_epoch": 3}
    else:
        given = {"x": Rows(x, Y), "batch_size": 4, "shuffle": False}
    with pytest.raises(ValueError, match="batch 2 .from 0., input 'x': row 1 .*nan"):
        one.fit(**given, strict=True, verbose=0)
    assert int(one.state.step) - before == 2


def test_class_weights_of_other_losses_and_data_are_refused(one):
    x = Input((4,), name="x")
    model = Model(x, Dense(1, name="out")(x))
    joint = losses.Joint(lambda y, outputs: losses.RowLosses(outputs[0][:, 0], {}))
    model.compile("sgd", joint)
    with pytest.raises(ValueError, match="class_weight needs targets that are classes; those of a"):
        model.fit(X, Y, class_weight={0: 1.0}, verbose=0)
    with pytest.raises(ValueError, match=r"must contain all classes in the data: \[0.5\]"):
        one.fit(X, np.full(12, 0.5), class_weight={0: 1.0, 1: 2.0}, verbose=0)


def test_data_without_a_length_need_steps_and_arrays_no_generator_method(one):
    for call in (one.evaluate, one.predict):
        with pytest.raises(ValueError, match="a generator has no length: `steps` has to say"):
            call(forever())
    with pytest.raises(ValueError, match="are a generator, an iterator or a `Sequence`; found nd"):
        one.fit_generator(X, 2)
    with pytest.raises(ValueError, match="a single batch is of arrays; found a generator"):
        one.train_on_batch(forever())
    with pytest.raises(ValueError, match="there was not one batch"):
        one.predict(iter(()), steps=1)


def test_what_keras_has_and_is_not_here_is_told():
    model = Model(x := Input((3,)), Dense(1)(x))
    with pytest.raises(NotImplementedError, match=r"save\('m.h5'\).*save_weights.*resume=folder"):
        model.save("m.h5", overwrite=True)
    with pytest.raises(ImportError, match=r"no Sequential: .*Model\(x, y\)"):
        from yolo_jax import Sequential  # noqa: F401
    with pytest.raises(ImportError, match="no load_model: .*load_weights"):
        _ = yolo_jax.load_model
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = yolo_jax.nothing


def test_layers_are_listed_once_to_get_one(monkeypatch):
    model = Model(x := Input((3,)), Dense(1, name="last")(x))
    listed, layers = [], Model.layers
    monkeypatch.setattr(
        Model, "layers", property(lambda self: listed.append(1) or layers.fget(self))
    )
    assert model.get_layer("last") is model.get_layer(index=-1) is model.get_layer(index=1)
    assert len(listed) == 3
    for given, complaint in (({"index": 2}, "at index 2 but"), ({"name": "no"}, "layer: no")):
        with pytest.raises(ValueError, match=complaint):
            model.get_layer(**given)
