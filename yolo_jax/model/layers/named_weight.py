"""A layer's weight under Keras's name, where a flax module within holds it."""

from typing import TYPE_CHECKING, Any

from flax import nnx

if TYPE_CHECKING:
    from yolo_jax.model.graph import Layer


class NamedWeight:
    """An attribute that is the layer's weight of its name, or None where the layer is without it.

    `layer.kernel` is `layer.weights["kernel"]`; as in Keras it is there from the first call on.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        """Learns what it is called."""
        self.name = name

    def __get__(self, layer: "Layer | None", owner: type | None = None) -> Any:
        """Returns the variable.

        Raises:
            AttributeError: the layer was never called, so that it has no weights yet.
        """
        if layer is None:
            return self
        if not layer.built:
            raise AttributeError(
                f"layer {layer.name!r} has no {self.name} before it is called on a tensor"
            )
        found: nnx.Variable | None = layer.weights.get(self.name)
        return found
