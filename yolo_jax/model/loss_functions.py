"""Keras's losses by name: its classes, and `get`. The formulas are in `loss_formulas`."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, ClassVar

from jaxtyping import Array

from yolo_jax.model.loss_formulas import (
    Given,
    Values,
    binary_crossentropy,
    categorical_crossentropy,
    categorical_hinge,
    cosine_similarity,
    hinge,
    huber,
    kullback_leibler_divergence,
    logcosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from yolo_jax.model.losses import LossFunction

mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
kld = KLD = kullback_leibler_divergence
cosine = cosine_proximity = cosine_similarity
huber_loss = huber
log_cosh = logcosh


@dataclass(frozen=True)
class Loss:
    """A loss function with its arguments, under Keras's class names.

    Called, it returns what the function returns; `fit` reduces it.

    Attributes:
        name: Keras's, unless another is given.
    """

    function: ClassVar[Callable[..., Array]]
    name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.function.__name__)

    def __call__(self, y_true: Given, y_pred: Given) -> Values:
        """Returns the function's values."""
        arguments = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        return self.function(y_true, y_pred, **arguments)


class MeanSquaredError(Loss):
    """`mean_squared_error` as an object."""

    function = staticmethod(mean_squared_error)


class MeanAbsoluteError(Loss):
    """`mean_absolute_error` as an object."""

    function = staticmethod(mean_absolute_error)


class MeanAbsolutePercentageError(Loss):
    """`mean_absolute_percentage_error` as an object."""

    function = staticmethod(mean_absolute_percentage_error)


class MeanSquaredLogarithmicError(Loss):
    """`mean_squared_logarithmic_error` as an object."""

    function = staticmethod(mean_squared_logarithmic_error)


class LogCosh(Loss):
    """`logcosh` as an object."""

    function = staticmethod(logcosh)


class KLDivergence(Loss):
    """`kullback_leibler_divergence` as an object."""

    function = staticmethod(kullback_leibler_divergence)


class Poisson(Loss):
    """`poisson` as an object."""

    function = staticmethod(poisson)


class Hinge(Loss):
    """`hinge` as an object."""

    function = staticmethod(hinge)


class SquaredHinge(Loss):
    """`squared_hinge` as an object."""

    function = staticmethod(squared_hinge)


class CategoricalHinge(Loss):
    """`categorical_hinge` as an object."""

    function = staticmethod(categorical_hinge)


@dataclass(frozen=True)
class BinaryCrossentropy(Loss):
    """`binary_crossentropy` with its arguments."""

    function = staticmethod(binary_crossentropy)
    from_logits: bool = False
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class CategoricalCrossentropy(Loss):
    """`categorical_crossentropy` with its arguments."""

    function = staticmethod(categorical_crossentropy)
    from_logits: bool = False
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class SparseCategoricalCrossentropy(Loss):
    """`sparse_categorical_crossentropy` with its arguments."""

    function = staticmethod(sparse_categorical_crossentropy)
    from_logits: bool = False


@dataclass(frozen=True)
class Huber(Loss):
    """`huber` with its arguments."""

    function = staticmethod(huber)
    delta: float = 1.0


@dataclass(frozen=True)
class CosineSimilarity(Loss):
    """`cosine_similarity` with its arguments."""

    function = staticmethod(cosine_similarity)
    axis: int = -1


CLASSES: tuple[type[Loss], ...] = (
    MeanSquaredError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    LogCosh,
    KLDivergence,
    Poisson,
    Hinge,
    SquaredHinge,
    CategoricalHinge,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    Huber,
    CosineSimilarity,
)
FUNCTIONS: dict[str, Callable[..., Array]] = {
    **{loss.function.__name__: loss.function for loss in CLASSES},
    **dict.fromkeys(("mse", "MSE"), mean_squared_error),
    **dict.fromkeys(("mae", "MAE"), mean_absolute_error),
    **dict.fromkeys(("mape", "MAPE"), mean_absolute_percentage_error),
    **dict.fromkeys(("msle", "MSLE"), mean_squared_logarithmic_error),
    **dict.fromkeys(("kld", "KLD", "kl_divergence"), kullback_leibler_divergence),
    **dict.fromkeys(("cosine", "cosine_proximity"), cosine_similarity),
    "huber_loss": huber,
    "log_cosh": logcosh,
}


def get(loss: str | LossFunction | type[Loss]) -> LossFunction:
    """Returns a loss function from Keras's name for it, or what is callable as it is.

    Args:
        loss: `mse`, `categorical_crossentropy`, `MeanSquaredError` …; a function or object; or one
            of the classes here, which is then made with its defaults.

    Raises:
        ValueError: the name is not known.
        TypeError: it is neither a name nor callable.
    """
    classes = {known.__name__: known for known in CLASSES}
    match loss:
        case str() if loss in FUNCTIONS:
            return FUNCTIONS[loss]
        case str() if loss in classes:
            return classes[loss]()
        case str():
            known = ", ".join(sorted([*FUNCTIONS, *classes]))
            raise ValueError(f"Unknown loss function:{loss}; known are {known}, or give a function")
        case type() if issubclass(loss, Loss):
            return loss()
        case _ if callable(loss) and not isinstance(loss, type):
            return loss
    raise TypeError(
        f"a loss is a name or a function (y_true, y_pred); found {type(loss).__name__}: {loss!r}"
    )


def function_of(loss: Any) -> Any:
    """Returns the function behind a loss: of an object its formula, of a partial what it calls."""
    match loss:
        case Loss():
            return type(loss).function
        case partial():
            return function_of(loss.func)
    return loss
