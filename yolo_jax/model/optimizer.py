"""The optimizer of a compiled model as callbacks see it: a learning rate to read and to set."""

from typing import TYPE_CHECKING, Any, NoReturn

import jax
import numpy as np
import optax

from yolo_jax.core.numbers import finite_number

if TYPE_CHECKING:
    from yolo_jax.model.trainer import Trainer

PyTree = Any


class LearningRate(float):
    """A learning rate as it was when it was read, which remembers whose it is.

    So `K.set_value(model.optimizer.lr, value)`, which callbacks written for Keras call, sets it.
    """

    view: "OptimizerView"

    def assign(self, value: float) -> None:
        """Sets the optimizer's learning rate."""
        self.view.lr = value


class OptimizerView:
    """Reads and sets the learning rate in a model's optimizer state.

    Args:
        model: compiled.
        transformation: that it was compiled with; `compile` takes this view in its place.
    """

    def __init__(self, model: "Trainer", transformation: optax.GradientTransformation) -> None:
        self._model, self.transformation = model, transformation

    def __getattr__(self, name: str) -> NoReturn:
        """Raises AttributeError that says what there is."""
        raise AttributeError(
            f"model.optimizer has no {name!r}: it has lr (or learning_rate), which can be set, and "
            "iterations. The other numbers stay as they were given to the maker, Adam(…) say, and "
            "optax keeps them within its functions: keep those you need beside it"
        )

    @property
    def lr(self) -> LearningRate:
        """Returns the learning rate; setting it counts from the next step, without recompiling.

        Raises:
            TypeError: the optimizer is a plain optax transformation, whose rate is fixed, or what
                is to be set follows a schedule.
            ValueError: what it is set to is no finite number of at least 0.
        """
        found = LearningRate(jax.device_get(self._injected().hyperparams["learning_rate"]))
        found.view = self
        return found

    @lr.setter
    def lr(self, value: float) -> None:
        value = finite_number("the learning rate", value, least=0)
        injected = self._injected()
        old = injected.hyperparams["learning_rate"]
        if "learning_rate" in getattr(injected, "hyperparams_states", {}):
            raise TypeError(
                "the learning rate follows a schedule by step, so it cannot be set; give the "
                "optimizer a number"
            )
        new = jax.device_put(np.asarray(value, old.dtype), old.sharding)
        hyperparams = {**injected.hyperparams, "learning_rate": new}
        replaced = injected._replace(hyperparams=hyperparams)
        state = self._model.state
        self._model.state = state._replace(
            opt_state=jax.tree.map(
                lambda part: replaced if part is injected else part,
                state.opt_state,
                is_leaf=_is_injected,
            )
        )

    learning_rate = lr

    @property
    def iterations(self) -> int:
        """Returns the number of updates that this optimizer made.

        Of an optax transformation that counts none it is the model's steps, under any optimizer.
        """
        counts = [
            leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(self._model.state.opt_state)
            if getattr(path[-1], "name", None) in ("iterations", "count")
        ]
        return max(map(int, counts), default=int(self._model.state.step))

    def _injected(self) -> Any:
        parts = jax.tree.leaves(self._model.state.opt_state, is_leaf=_is_injected)
        found = [part for part in parts if _is_injected(part)]
        if len(found) == 1 and "learning_rate" in found[0].hyperparams:
            return found[0]
        raise TypeError(
            "the learning rate of a plain optax transformation cannot be read or set; make it by "
            "yolo_jax.optimizers (Adam(lr=…)), or wrap it: optax.inject_hyperparams(optax.adam)("
            "learning_rate=…)"
        )


def kept_slots(old: PyTree, new: PyTree) -> PyTree:
    """Returns an optimizer's new state with all of the old one that still has its place in it.

    So its count, learning rate and the slots of weights that are trained as before go on; those of
    weights that are trained from now on start.

    Args:
        old: state of the same optimizer, maybe over other weights.
        new: state of the optimizer before its first update.
    """
    before = {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(old)
    }

    def kept(path: Any, leaf: Any) -> Any:
        found = before.get(jax.tree_util.keystr(path))
        return leaf if found is None or np.shape(found) != np.shape(leaf) else found

    return jax.tree_util.tree_map_with_path(kept, new)


def _is_injected(part: Any) -> bool:
    return hasattr(part, "hyperparams") and hasattr(part, "_replace")
