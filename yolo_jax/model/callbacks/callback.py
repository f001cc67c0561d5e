"""`Callback`, with all hooks of fit, evaluate and predict, and the list that calls them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_jax.model.model import Model

Logs = Mapping[str, Any]


class Callback:
    """Does nothing at every hook; subclasses override those they need.

    Hooks run in Keras's order: `set_model, set_params, on_train_begin, {on_epoch_begin,
    {on_train_batch_begin, on_train_batch_end}*, [on_test_begin, {on_test_batch_*}*, on_test_end],
    on_epoch_end}*, on_train_end`, and `close` whatever ends a fit. A batch's logs are fetched from
    the device when they are read: a callback that reads none costs nothing.

    Attributes:
        model: the model at work; `model.stop_training = True` ends the fit after this batch.
        params: `epochs`, `steps` and `verbose` of the call; of a loader's epoch that is over,
            `step_seconds`, the time of its steps, and `input_wait`, the share of it that was spent
            waiting for data. Asked for by name, Keras 2.3's `metrics`, `do_validation` and, where
            known, `samples` and `batch_size` are there too.
        validation_data: None, as in tf.keras: what is evaluated was given to `fit`.
    """

    model: "Model"
    params: dict[str, Any]
    validation_data: Any = None

    def set_model(self, model: Any) -> None:
        """Receives the model before anything else."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Receives the numbers of the call."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Runs before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Runs after the last epoch, but not when an exception or Ctrl-C ended the fit."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Runs before each epoch (counted from 0)."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Runs after each epoch and its validation; keys added to `logs` are kept."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Runs before each training batch: the old name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Runs after each training batch: the old name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Runs before each training batch."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Runs after each training batch; reading a value from `logs` waits for the device."""
        self.on_batch_end(batch, logs=logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Runs before evaluation, fit's validation included."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Runs after evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Runs before each batch of evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Runs after each batch of evaluation."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Runs before prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Runs after prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Runs before each batch of prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Runs after each batch of prediction."""

    def close(self) -> None:
        """Lets go of files and the like at the very end of a fit, whatever ended it."""

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of the callback, as JSON holds it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` returned; runs before `on_train_begin`."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


class CallbackList(Callback):
    """Calls several callbacks in their order; `logs` left out become an empty dict.

    Raises:
        TypeError: something in the list is no `Callback`.
    """

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        if isinstance(callbacks, Callback) and not isinstance(callbacks, CallbackList):
            raise TypeError(
                f"callbacks must be a list; found one {type(callbacks).__name__}: write [it]"
            )
        if not isinstance(callbacks, Iterable):
            raise TypeError(f"callbacks must be a list; found {type(callbacks).__name__}")
        self.callbacks: list[Callback] = []
        for callback in callbacks:
            self.append(callback)

    def __iter__(self) -> Iterator[Callback]:
        """Iterates over the callbacks."""
        return iter(self.callbacks)

    @property
    def has_batch_hooks(self) -> bool:
        """Tells whether a callback does something before or after each training batch."""
        return any(
            getattr(getattr(callback, name), "__func__", None) is not getattr(Callback, name)
            for callback in self.callbacks
            for name in _BATCH_HOOKS
        )

    def append(self, callback: Callback) -> None:
        """Adds a callback that is called after those before it."""
        if not isinstance(callback, Callback):
            if isinstance(callback, type):
                found = f"the class {callback.__name__}: make one by {callback.__name__}(...)"
            else:
                found = f"{type(callback).__name__}: derive it from yolo_jax.callbacks.Callback"
            raise TypeError(f"callbacks must hold Callback objects; found {found}")
        self.callbacks.append(callback)

    def set_model(self, model: Any) -> None:
        """Gives every callback the model."""
        self.model = model
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Gives every callback the numbers of the call."""
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)

    def close(self, error: BaseException | None = None) -> None:
        """Closes every callback, whatever another one raises.

        Args:
            error: that ended the fit: it is not hidden by what a callback raises, which it notes.
        """
        first = error
        for callback in self.callbacks:
            try:
                callback.close()
            except Exception as found:
                if first is None:
                    first = found
                else:
                    first.add_note(f"Then {type(callback).__name__}.close() failed: {found!r}")
        if first is not error and first is not None:
            raise first


def _each(hook: str) -> Callable[..., None]:
    """Returns the hook of a list: that of each callback in turn."""
    of_index = hook.startswith("on_epoch_") or "batch" in hook

    def with_index(self: CallbackList, index: int, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            getattr(callback, hook)(index, logs)

    def without_index(self: CallbackList, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            getattr(callback, hook)(logs)

    return with_index if of_index else without_index


# Methods that differ by their name alone.
for _hook in HOOKS:
    setattr(CallbackList, _hook, _each(_hook))


class LambdaCallback(Callback):
    """Calls the given functions at the hooks.

    Args:
        on_epoch_begin: called (epoch, logs).
        on_epoch_end: called (epoch, logs).
        on_batch_begin: called (batch, logs=logs): its second parameter must be named `logs`.
        on_batch_end: called (batch, logs=logs).
        on_train_begin: called (logs).
        on_train_end: called (logs).
        **hooks: any other hook of `Callback`, by its name.

    Raises:
        TypeError: a name that is no hook, or a hook that cannot be called.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_batch_begin: Callable[..., Any] | None = None,
        on_batch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        **hooks: Callable[..., Any] | None,
    ) -> None:
        hooks |= {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_batch_begin": on_batch_begin,
            "on_batch_end": on_batch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
        }
        for name, function in hooks.items():
            if name not in HOOKS:
                raise TypeError(f"LambdaCallback takes hooks ({', '.join(HOOKS)}); found {name}")
            if function is None:
                continue
            if not callable(function):
                raise TypeError(f"{name} must be a function; found {type(function).__name__}")
            setattr(self, name, function)
