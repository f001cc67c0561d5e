"""`Callback.params`: the numbers of a call, as tf.keras and as Keras 2.3 give them."""

from collections.abc import Mapping
from typing import Any


class Params(dict[str, Any]):
    """What tf.keras gives its callbacks; what Keras 2.3 gave beside it answers if it is asked for.

    So `params["metrics"]` is there for callbacks that were written for 2.3, and whoever looks at
    the keys finds those of tf.keras.

    Args:
        stated: the keys.
        older: what else is known.
    """

    def __init__(self, stated: Mapping[str, Any], older: Mapping[str, Any]) -> None:
        super().__init__(stated)
        self._older = dict(older)

    def __missing__(self, key: str) -> Any:
        """Returns what Keras 2.3 had under a key.

        Raises:
            KeyError: nothing, or what these data do not tell.
        """
        if key in self._older:
            return self._older[key]
        raise KeyError(f"{key!r}: this call's params are {', '.join([*self, *self._older])}")

    def __contains__(self, key: object) -> bool:
        """Tells whether something is known under a key."""
        return super().__contains__(key) or key in self._older

    def get(self, key: str, default: Any = None) -> Any:
        """Returns what is known under a key, or the default."""
        try:
            return self[key]
        except KeyError:
            return default


def known_rows(order: Mapping[str, Any]) -> dict[str, int]:
    """Returns `samples` and `batch_size`, where a feed's order of rows has them."""
    names = {"samples": "rows", "batch_size": "batch_size"}
    return {name: order[own] for name, own in names.items() if own in order}
