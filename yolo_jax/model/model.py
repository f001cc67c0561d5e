"""`Model(inputs, outputs)`."""

from collections.abc import Sequence
from typing import Any

import jax

from yolo_jax.model.arrays import standardize
from yolo_jax.model.callbacks import Callback
from yolo_jax.model.history import History
from yolo_jax.model.trainer import Trainer
from yolo_jax.training.step import Fed, Sums

PyTree = Any


class Model(Trainer):
    """A graph of layers: trained, evaluated and asked as Keras's is.

    `Trainer` has compile, fit and evaluate; `Predictor` predict; `Container` layers and weights.
    Here are single batches, and Keras's older names.
    """

    _batch_sums: Sums | None = None

    def train_on_batch(
        self, x: PyTree, y: PyTree = None, sample_weight: PyTree = None, class_weight: Any = None,
        reset_metrics: bool = True, *, return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:  # fmt: skip
        """Takes one step on one batch and returns its loss and metrics, as `evaluate` does.

        With `reset_metrics` False they are means over this and the calls since the last reset.
        """
        compiled = self.require_compiled()
        self.read_layers()
        arrays = standardize(self.signature, x, y, sample_weight, class_weight)
        fed = arrays.take(slice(None))
        sums = self._sums_before(reset_metrics, fed, training=True)
        self.state, sums = compiled.train(self.state, sums, fed)
        self._batch_sums = sums
        self.write_back()
        return self._returned(compiled.objective.results(jax.device_get(sums)), return_dict)

    def test_on_batch(
        self, x: PyTree, y: PyTree = None, sample_weight: PyTree = None,
        reset_metrics: bool = True, *, return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:  # fmt: skip
        """Returns loss and metrics of one batch, as `evaluate` does; see `train_on_batch`."""
        compiled = self.require_compiled()
        self.read_layers()
        fed = standardize(self.signature, x, y, sample_weight).take(slice(None))
        sums = self._sums_before(reset_metrics, fed, training=False)
        self._batch_sums = sums = compiled.evaluate(self.state, sums, fed)
        return self._returned(compiled.objective.results(jax.device_get(sums)), return_dict)

    def _sums_before(self, reset: bool, fed: Fed, *, training: bool) -> Sums:
        """Returns the sums that a single batch is added to."""
        if reset or self._batch_sums is None:
            return self.require_compiled().zero_sums(self.state, fed, training=training)
        return self._batch_sums

    def fit_generator(
        self, generator: Any, steps_per_epoch: int | None = None, epochs: int = 1,
        verbose: int = 1, callbacks: Sequence[Callback] | None = None, validation_data: Any = None,
        validation_steps: int | None = None, validation_freq: int | Sequence[int] = 1,
        class_weight: Any = None, max_queue_size: int = 10, workers: int = 1,
        use_multiprocessing: bool = False, shuffle: bool = True, initial_epoch: int = 0,
    ) -> History:  # fmt: skip
        """Calls `fit` with a generator or a `Sequence`, in the argument order of Keras 2."""
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
        return self.predict(
            generator, None, verbose, steps, callbacks, max_queue_size, workers,
            use_multiprocessing,
        )  # fmt: skip
