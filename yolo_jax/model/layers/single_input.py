"""What all layers of one tensor share: a list of several is refused by name."""

from collections.abc import Sequence

from yolo_jax.model.graph import Layer
from yolo_jax.model.graph.tensor import Shape


class SingleInput(Layer):
    """A layer that is called on one tensor."""

    def _check_inputs(self, shapes: Sequence[Shape]) -> None:
        if len(shapes) > 1:
            raise ValueError(
                f"Layer {self.name!r} expects 1 input, but it received {len(shapes)}, of shapes "
                f"{list(shapes)}: call it on each, or merge them first, as Concatenate()([x, y])"
            )
        super()._check_inputs(shapes)
