"""`Model(inputs, outputs)`."""

from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from yolo_jax.core.caller import renamed
from yolo_jax.core.interrupts import uncut
from yolo_jax.model.arrays import standardize
from yolo_jax.model.callbacks import Callback
from yolo_jax.model.data import kind_of
from yolo_jax.model.history import History
from yolo_jax.model.trainer import Trainer
from yolo_jax.training.step import Fed, Sums

PyTree = Any
_NO_CONFIG = (
    "a graph of functions has no config and no JSON: the code that made the model makes it again; "
    "model.save_weights(path) keeps its weights, and load_weights reads them. model.summary() and "
    "plot_model show what it is"
)


class Model(Trainer):
    """A graph of layers: trained, evaluated and asked as Keras's is.

    `Trainer` has compile, fit and evaluate; `Predictor` predict; `Container` layers and weights.
    Here are single batches, and Keras's older names.
    """

    def save(self, filepath: Any = None, *arguments: Any, **named: Any) -> NoReturn:
        """Says what saves.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"Model.save({filepath!r}) is not there, a model being its Python code: "
            "model.save_weights(path) keeps the weights, and load_weights reads them into the "
            "model that the same code builds; callbacks=[Checkpoint(folder)] keeps a whole run "
            "with its optimizer, and fit(resume=folder) goes on from there"
        )

    def get_config(self, *arguments: Any, **named: Any) -> NoReturn:
        """Says what keeps a model, as `to_json`, `to_yaml` and `from_config` do.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_NO_CONFIG)

    to_json = to_yaml = get_config

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Says what makes a second model, where `copy.deepcopy` or `pickle` asks for one.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"model {self.name!r} cannot be copied or pickled: call the code that made it once "
            "more, and give the new model this one's weights, new.set_weights(model.get_weights())"
        )

    @classmethod
    def from_config(cls, *arguments: Any, **named: Any) -> NoReturn:
        """Says the same.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_NO_CONFIG)

    def train_on_batch(
        self, x: PyTree = None, y: PyTree = None, sample_weight: PyTree = None,
        class_weight: Any = None, reset_metrics: bool = True, *, return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:  # fmt: skip
        """Takes one step on one batch and returns its loss and metrics, as `evaluate` does.

        The loss is that of the batch; the rest are means over this and the calls since the last
        reset, which `reset_metrics` makes after the call. So with True in every call all are of the
        batch, and with False in every call they are means since `Model.reset_metrics`.
        """
        compiled = self.require_compiled()
        self.warn_if_frozen_since()
        fed = self._batch(x, y, sample_weight, class_weight)
        sums = compiled.zero_sums(self.state, fed, training=True)
        with uncut() as block, block:  # the step takes the state's arrays, and returns others
            self.state, sums = compiled.train(self.state, sums, [fed])
        self.write_back()
        return self._returned(self._batch_results(sums, reset_metrics), return_dict)

    def test_on_batch(
        self, x: PyTree = None, y: PyTree = None, sample_weight: PyTree = None,
        reset_metrics: bool = True, *, return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:  # fmt: skip
        """Returns loss and metrics of one batch, as `evaluate` does; see `train_on_batch`."""
        compiled = self.require_compiled()
        fed = self._batch(x, y, sample_weight, None)
        sums = compiled.zero_sums(self.state, fed, training=False)
        sums = compiled.evaluate(self.state, sums, fed)
        return self._returned(self._batch_results(sums, reset_metrics), return_dict)

    def reset_metrics(self) -> None:
        """Forgets the batches whose metrics `train_on_batch(reset_metrics=False)` adds up."""
        self._batch_sums = None

    def _batch(self, x: PyTree, y: PyTree, sample_weight: PyTree, class_weight: Any) -> Fed:
        """Returns arrays as one batch, checked.

        Raises:
            ValueError: the data are no arrays, do not fit, or have no row.
        """
        self.read_layers()
        x, y = self._or_own(x, y)
        if kind_of(x) != "arrays":
            raise ValueError(f"a single batch is of arrays; found a {type(x).__name__}")
        arrays = standardize(self.signature, x, y, sample_weight, class_weight)
        if not arrays.rows:
            raise ValueError("a batch has a row at least; found arrays of 0 samples")
        return arrays.take(slice(None))

    def _batch_results(self, sums: Sums, reset: bool) -> dict[str, float]:
        """Returns a batch's loss, and its metrics together with those of the batches before."""
        objective = self.require_compiled().objective
        sums = jax.device_get(sums)
        loss = objective.results({"loss": sums["loss"]})
        if self._batch_sums is not None:
            sums = jax.tree.map(np.add, sums, self._batch_sums)
        self._batch_sums = None if reset else sums
        return objective.results(sums) | loss

    def fit_generator(
        self, generator: Any, steps_per_epoch: int | None = None, epochs: int = 1,
        verbose: int = 1, callbacks: Sequence[Callback] | None = None, validation_data: Any = None,
        validation_steps: int | None = None, validation_freq: int | Sequence[int] = 1,
        class_weight: Any = None, max_queue_size: int = 10, workers: int = 1,
        use_multiprocessing: bool = False, shuffle: bool = True, initial_epoch: int = 0, *,
        nb_epoch: int | None = None,
    ) -> History:  # fmt: skip
        """Calls `fit` with a generator or a `Sequence`, in the argument order of Keras 2."""
        self._check_stream(generator)
        epochs = renamed("nb_epoch", nb_epoch, "epochs", epochs)
        return self.fit(
            generator, None, None, epochs, verbose, callbacks, 0.0, validation_data, shuffle,
            class_weight, None, initial_epoch, steps_per_epoch, validation_steps, validation_freq,
            max_queue_size, workers, use_multiprocessing,
        )  # fmt: skip

    def evaluate_generator(
        self, generator: Any, steps: int | None = None,
        callbacks: Sequence[Callback] | None = None, max_queue_size: int = 10, workers: int = 1,
        use_multiprocessing: bool = False, verbose: int = 0,
    ) -> float | list[float] | dict[str, float]:  # fmt: skip
        """Calls `evaluate` with a generator or a `Sequence`."""
        self._check_stream(generator)
        return self.evaluate(
            generator, None, None, verbose, None, steps, callbacks, max_queue_size, workers,
            use_multiprocessing,
        )  # fmt: skip

    def predict_generator(
        self, generator: Any, steps: int | None = None,
        callbacks: Sequence[Callback] | None = None, max_queue_size: int = 10, workers: int = 1,
        use_multiprocessing: bool = False, verbose: int = 0,
    ) -> Any:  # fmt: skip
        """Calls `predict` with a generator or a `Sequence`."""
        self._check_stream(generator)
        return self.predict(
            generator, None, verbose, steps, callbacks, max_queue_size, workers,
            use_multiprocessing,
        )  # fmt: skip

    def _check_stream(self, generator: Any) -> None:
        """Raises ValueError if the data are arrays, or None."""
        if kind_of(generator) == "arrays":
            raise ValueError(
                "the data are a generator, an iterator or a `Sequence`; found "
                f"{type(generator).__name__}. Arrays go to fit, evaluate and predict; a generator "
                "function has to be called: generator()"
            )
