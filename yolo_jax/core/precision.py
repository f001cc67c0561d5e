"""The one policy of number formats: parameters, loss and statistics float32, compute as it says."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


@dataclass(frozen=True)
class Precision:
    """Number formats of a network.

    Attributes:
        compute: dtype of convolutions and of what passes between them.
        params: dtype in which parameters and statistics are kept.
    """

    compute: DTypeLike = jnp.float32
    params: DTypeLike = jnp.float32

    @classmethod
    def for_backend(cls, backend: str | None = None) -> "Precision":
        """Returns bfloat16 compute for TPU and GPU, float32 for CPU.

        Args:
            backend: `cpu`, `gpu` or `tpu`; None asks JAX, which starts its devices.
        """
        backend = backend or jax.default_backend()
        return cls(compute=jnp.float32 if backend == "cpu" else jnp.bfloat16)
