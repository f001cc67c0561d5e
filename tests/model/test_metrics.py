import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax import losses, metrics
from yolo_jax.model.metrics import CLASSES, FUNCTIONS, Metric, resolve

GOLDEN = Path(__file__).parents[1] / "golden" / "keras"
LABELS = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
PARTS = np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]])
# One threshold apart from 0, 0.5 and 1: the counts below are those of tf.keras's own examples.
BINARY = np.array([[0.0], [0.0], [1.0], [1.0]])
SCORES = np.array([[0.0], [0.5], [0.3], [0.9]])


def value(metric, true, found, weight=None):
    return metric.result(jax.jit(metric.sums)(true, found, weight))


def test_accuracy_by_hand():
    assert value(resolve("acc", (None, 1)), BINARY, SCORES) == 0.75
    assert value(resolve("accuracy", (None, 3)), LABELS, PARTS) == 0.5
    assert value(resolve("accuracy", (None, 3)), np.array([[0], [2]]), PARTS) == 0.5
    assert value(resolve("accuracy", (None, 3)), np.array([0, 1]), PARTS) == 1.0
    # Binary cross-entropy on several columns: each column is right or wrong.
    of_columns = resolve("acc", (None, 3), losses.BinaryCrossentropy())
    assert value(of_columns, LABELS, PARTS) == pytest.approx((3 + 2) / 6)


def test_accuracy_follows_the_loss():
    loss = partial(losses.sparse_categorical_crossentropy, from_logits=True)
    sparse = resolve("accuracy", (None, 3), loss)
    with pytest.raises(ValueError, match="class ids"):
        sparse.sums(LABELS, PARTS, None)
    assert value(sparse, np.array([0, 2]), PARTS) == 0.5
    crossentropy = resolve("ce", (None, 3), "categorical_crossentropy")
    assert value(crossentropy, LABELS, PARTS) == pytest.approx(-np.log([0.7, 0.25]).mean())
    # One value a row, without an axis of its own.
    assert value(resolve("acc", (None,)), np.array([1.0, 0.0]), np.array([0.7, 0.7])) == 0.5


def test_half_counts_as_no():
    assert value(resolve("binary_accuracy", (None, 1)), [[0.0]], np.array([[0.5]])) == 1
    strict = metrics.BinaryAccuracy(threshold=0.7)
    assert value(strict, [[0.0]], np.array([[0.7]])) == 1
    assert value(strict, [[1.0]], np.array([[0.7]])) == 0


def test_first_of_equals():
    equal = np.array([[0.5, 0.5]])
    assert value(metrics.CategoricalAccuracy(), np.array([[1.0, 0.0]]), equal) == 1
    assert value(metrics.SparseCategoricalAccuracy(), np.array([1]), equal) == 0


def test_top_k_with_ties():
    """Only what is predicted strictly higher comes before; so all of a tie are in."""
    found = np.array([[0.4, 0.3, 0.3, 0.0]])
    hits = [
        value(metrics.SparseTopKCategoricalAccuracy(k=2), np.array([c]), found) for c in range(4)
    ]
    assert hits == [1, 1, 1, 0]
    one_hot = np.array([[0, 0, 0, 1.0]])
    assert value(metrics.TopKCategoricalAccuracy(3), one_hot, found) == 0
    assert value(metrics.TopKCategoricalAccuracy(), one_hot, found) == 1
    assert value(metrics.SparseTopKCategoricalAccuracy(), np.array([7]), found) == 0
    assert value(metrics.TopKCategoricalAccuracy(), one_hot, found * np.nan) == 0


def test_weights_leave_rows_out_even_of_nan():
    metric = resolve("mse", (None, 1))
    found = np.array([[1.0], [3.0], [np.nan], [2.0]])
    true = np.zeros((4, 1))
    assert value(metric, true, found, np.array([1.0, 3.0, 0.0, 0.0])) == (1 + 27) / 4
    assert value(metric, true, found, np.zeros(4)) == 0
    assert value(metric, np.zeros((0, 1)), np.zeros((0, 1))) == 0


def test_weights_of_steps_and_of_pixels():
    found, true = np.array([[[1.0], [2.0]], [[3.0], [4.0]]]), np.zeros((2, 2, 1))
    metric = metrics.MeanAbsoluteError()
    assert value(metric, true, found, np.array([[1.0, 0.0], [0.0, 1.0]])) == 2.5
    assert value(metric, true, found, np.array([1.0, 0.0])) == 1.5
    assert value(metric, true, found, np.array([[1.0], [0.0]])) == 1.5
    with pytest.raises(ValueError, match=r"weights of the shape \(3,\)"):
        metric.sums(true, found, np.ones(3))
    with pytest.raises(ValueError, match=r"weights of the shape \(2, 2, 2\)"):
        metric.sums(true, found, np.ones((2, 2, 2)))


def test_sums_add_over_batches():
    rng = np.random.default_rng(0)
    true, found = (rng.random((20, 1)) > 0.5).astype(float), rng.random((20, 1))
    weight = rng.random(20)
    for known in ("AUC", "Precision", "MeanSquaredError", "RootMeanSquaredError", "BinaryAccuracy"):
        metric = CLASSES[known]()
        sums = jax.jit(metric.sums)
        whole = sums(true, found, weight)
        parts = [sums(true[r], found[r], weight[r]) for r in (slice(7), slice(7, 20))]
        added = jax.tree.map(jnp.add, *parts)
        assert metric.result(added) == pytest.approx(metric.result(whole), rel=1e-5)


def test_a_number_for_all_rows_is_weighed_by_rows():
    metric = resolve(lambda true, found: jnp.abs(found - true).mean(), (None, 1))
    assert metric.name == "<lambda>"
    sums = jax.tree.map(
        jnp.add,
        metric.sums(np.zeros((4, 1)), np.ones((4, 1)), np.ones(4)),
        metric.sums(np.zeros((1, 1)), np.full((1, 1), 6.0), np.ones(1)),
    )
    assert metric.result(sums) == pytest.approx(2)


def test_cosine_is_positive_as_a_metric():
    same = np.array([[3.0, 4.0]])
    assert value(resolve("cosine_similarity", (None, 2)), same, same) == pytest.approx(1)
    assert value(metrics.CosineSimilarity(), same, -same) == pytest.approx(-1)


def test_counts_by_hand():
    expected = {"TruePositives": 1, "FalsePositives": 0, "TrueNegatives": 2, "FalseNegatives": 1}
    for known, count in expected.items():
        assert value(CLASSES[known](), BINARY, SCORES) == count
    weight = np.array([1.0, 2.0, 3.0, 4.0])
    assert value(metrics.FalsePositives(0.4), BINARY, SCORES, weight) == 2
    assert value(metrics.TruePositives(), BINARY, SCORES, weight) == 4


def test_precision_and_recall():
    weight = np.array([1.0, 2.0, 3.0, 4.0])
    assert value(metrics.Precision(), BINARY, SCORES) == 1
    assert value(metrics.Recall(), BINARY, SCORES) == 0.5
    assert value(metrics.Precision(0.4), BINARY, SCORES, weight) == pytest.approx(4 / 6)
    # Several thresholds in any order; nothing above 0.95.
    several = value(metrics.Recall([0.95, 0.2, 0.5]), BINARY, SCORES)
    np.testing.assert_allclose(several, [0, 1, 0.5])
    assert value(metrics.Precision(0.95), BINARY, SCORES) == 0


def test_precision_of_the_best_and_of_one_class():
    true = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    found = np.array([[0.1, 0.4, 0.3], [0.2, 0.2, 0.1]])
    # Best of each row; of equals the first.
    assert value(metrics.Precision(top_k=1), true, found) == 1
    assert value(metrics.Recall(top_k=1), true, found) == pytest.approx(2 / 3)
    assert value(metrics.Recall(top_k=1, class_id=2), true, found) == 0
    assert value(metrics.Recall(0.15, class_id=1), true, found) == 1
    assert value(metrics.Precision(0.15, class_id=1), true, found) == 0.5
    assert value(metrics.Precision(0.35, top_k=2), true, found) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # tf.keras's documentation: tp [2, 1, 0], fp [2, 0, 0], so recall 1, ½, 0 over 1, 0, 0.
        ({}, 0.75),
        ({"summation_method": "minoring"}, 0.5),
        ({"summation_method": "majoring"}, 1.0),
        # Precision ½, 1, 0 over recall 1, ½, 0.
        ({"curve": "PR", "summation_method": "minoring"}, 0.25),
        ({"curve": "PR", "summation_method": "majoring"}, 1.0),
    ],
)
def test_auc_by_hand(arguments, expected):
    assert value(metrics.AUC(num_thresholds=3, **arguments), BINARY, SCORES) == pytest.approx(
        expected
    )
    given = metrics.AUC(thresholds=[0.5], **arguments)
    assert value(given, BINARY, SCORES) == pytest.approx(expected)


def test_auc_heeds_weights():
    """tf.keras's example: weights 1, 0, 0, 1 leave a right order alone."""
    metric = metrics.AUC(num_thresholds=3)
    assert value(metric, BINARY, SCORES, np.array([1.0, 0.0, 0.0, 1.0])) == 1
    assert value(metric, BINARY, SCORES, np.zeros(4)) == 0


def test_area_under_precision_over_recall():
    """Davis & Goadrich's formula on the two parts, from (tp, fp) = (2, 2) to (1, 0) to (0, 0).

    In the first part one of three positive predictions is right: slope ⅓, intercept ⅔. The second
    is a step of precision 1 and recall ½.
    """
    metric = metrics.AUC(num_thresholds=3, curve="PR")
    slope = 1 / 3
    first = slope * (1 + (1 - slope) * np.log(4)) / 2
    assert value(metric, BINARY, SCORES) == pytest.approx(first + 0.5, rel=1e-6)


def test_auc_is_near_the_rate_of_rightly_ordered_pairs():
    rng = np.random.default_rng(1)
    true = rng.random(300) > 0.4
    found = np.clip(rng.normal(0.4 + 0.2 * true, 0.15), 0, 1)
    pairs = found[true][:, None] - found[~true][None]
    exact = (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
    assert value(metrics.AUC(), true[:, None], found[:, None]) == pytest.approx(exact, abs=2e-3)


def test_mean_iou():
    true, found = np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 0, 1])
    assert value(metrics.MeanIoU(2), true, found) == pytest.approx(1 / 3)
    # tf.keras's example of weights; a class that never occurs does not count.
    weight = np.array([0.3, 0.3, 0.3, 0.1])
    assert value(metrics.MeanIoU(3), true, found, weight) == pytest.approx(0.23809525, rel=1e-6)
    assert value(metrics.MeanIoU(2), true, found, np.zeros(4)) == 0


def test_what_is_no_probability_or_class_is_refused():
    logits = np.array([[-1.0], [0.5], [3.0], [np.nan]])
    for metric in (metrics.AUC(), metrics.Precision(), metrics.Recall(top_k=1)):
        sums = metric.sums(BINARY, logits, None)
        with pytest.raises(ValueError, match=r"3 predictions .* end the model with a sigmoid"):
            metric.result(sums)
        padding = metric.sums(BINARY, logits, np.array([0, 1.0, 0, 0]))
        assert np.isfinite(metric.result(padding))
    with pytest.raises(ValueError, match="1 labels or predictions .* 0 to 1"):
        value(metrics.MeanIoU(2), np.array([0, 2]), np.array([0, 1]))


def test_names():
    for name in ("mse", "MSE", "mean_squared_error", "acc", "accuracy", "ce", "cosine"):
        assert resolve(name, (None, 2)).name == name
    assert resolve(losses.mean_squared_error, (None, 2)).name == "mean_squared_error"
    assert resolve(losses.Huber(2.0), (None, 2)).name == "huber"
    assert resolve(partial(losses.huber, delta=2.0), (None, 2)).name == "huber"
    assert resolve("AUC", (None, 1)).name == resolve(metrics.AUC, (None, 1)).name == "auc"
    assert metrics.MeanIoU(2).name == "mean_io_u"
    assert metrics.Precision(name="p").name == "p"
    assert metrics.MeanSquaredError("m").name == "m"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_class_is_a_metric_under_its_default_name(name):
    metric = resolve(name, (None, 3))
    assert isinstance(metric, Metric)
    assert metric.name.replace("_", "") in (name.lower(), "logcosh", "kullbackleiblerdivergence")
    true = np.array([0, 2]) if "Sparse" in name else LABELS
    assert np.isfinite(value(metric, true, PARTS))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_is_a_metric(name):
    true = np.array([0, 2]) if "sparse" in name else LABELS
    assert np.isfinite(value(resolve(name, (None, 3)), true, PARTS))


def test_an_own_metric():
    class Largest:
        name = "largest"

        def sums(self, y_true, y_pred, weight):
            return jnp.max(y_pred)

        def result(self, sums):
            return float(sums)

    own = Largest()
    assert resolve(own, (None, 1)) is own


@pytest.mark.parametrize(
    ("metric", "error", "match"),
    [
        ("nope", ValueError, "Unknown metric function:nope; known are .*accuracy"),
        (3, TypeError, "found int: 3"),
        (metrics.MeanIoU, TypeError, "found type"),
        (None, TypeError, "found NoneType"),
    ],
)
def test_what_is_no_metric(metric, error, match):
    with pytest.raises(error, match=match):
        resolve(metric, (None, 1))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: metrics.AUC(curve="XY"), "'ROC' or 'PR'; found 'XY'"),
        (lambda: metrics.AUC(summation_method="sum"), "found 'sum'"),
        (lambda: metrics.AUC(num_thresholds=1), "num_thresholds > 1; found 1"),
        (lambda: metrics.AUC(thresholds=[2.0]), "between 0 and 1"),
        (lambda: metrics.Precision(1.5), "between 0 and 1; found 1.5"),
    ],
)
def test_bad_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    "case",
    [
        "02_softmax_both",
        "02_softmax_class_weight",
        "02_softmax_sample_weight",
        "02_softmax_sparse",
        "02_softmax_zero_weights",
        "07_temporal_1d_weights",
        "07_temporal_2d_weights",
    ],
)
def test_golden_predictions_give_the_golden_numbers(case):
    """Keras's own predictions, and what its evaluate makes of them: loss and metrics."""
    told = json.loads((GOLDEN / f"{case}.json").read_text())
    arrays = np.load(GOLDEN / f"{case}.npz")
    data, compiled = told["evaluate"], told["compile"]
    true, found = arrays[f"data/{data['y']}"], arrays["predict/0"]
    weight = arrays[f"data/{data['sample_weight']}"] if "sample_weight" in data else None
    loss = losses.get(compiled["loss"])
    values = np.asarray(loss(true, found))
    by_value = (
        1 if weight is None else weight.reshape(*weight.shape, *(1,) * (values.ndim - weight.ndim))
    )
    expected = told["expected"]["evaluate"]
    close = partial(pytest.approx, rel=1e-5, abs=1e-5)
    assert (values * by_value).mean() == close(expected["loss"])
    for name in compiled["metrics"]:
        assert value(resolve(name, found.shape, loss), true, found) == close(expected[name])
    for name in compiled["weighted_metrics"]:
        assert value(resolve(name, found.shape, loss), true, found, weight) == close(expected[name])


@pytest.mark.parametrize("case", ["03_multi_dict", "03_multi_list_samplew"])
def test_golden_predictions_of_several_outputs(case):
    told = json.loads((GOLDEN / f"{case}.json").read_text())
    arrays = np.load(GOLDEN / f"{case}.npz")
    expected, compiled = told["expected"]["evaluate"], told["compile"]
    names = told["model"]["outputs"]
    for index, name in enumerate(names):
        y = told["evaluate"]["y"]
        true = arrays[f"data/{y[name] if isinstance(y, dict) else y[index]}"]
        true = true.reshape(len(true), -1)
        found = arrays[f"predict/{index}"]
        key = name if isinstance(compiled["loss"], dict) else index
        loss = losses.get(compiled["loss"][key])
        found_loss = np.asarray(loss(true, found)).mean()
        assert found_loss == pytest.approx(expected[f"{name}_loss"], rel=1e-5, abs=1e-5)
        asked = compiled["metrics"][key]
        for metric in [asked] if isinstance(asked, str) else asked:
            number = value(resolve(metric, found.shape, loss), true, found)
            assert number == pytest.approx(expected[f"{name}_{metric}"], rel=1e-5, abs=1e-5)
