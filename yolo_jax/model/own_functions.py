"""Calling functions that users wrote, whose errors JAX would tell in words of its own."""

from collections.abc import Callable
from typing import Any

import jax

_ADVICE = (
    "inside a model there are no numbers yet, only arrays that are traced: reckon with K or "
    "jax.numpy (jnp.mean for np.mean, jnp.where for `if`), and leave out float(), int() and bool()"
)


def call_own(what: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Calls a function with traced arrays and returns what it returns.

    Args:
        what: it is, for the error: `the loss of output 'out'`.
        function: that somebody wrote.
        arguments: of it.
        keywords: of it.

    Raises:
        TypeError: it returns no array, or calls NumPy on a traced one.
    """
    try:
        found = function(*arguments, **keywords)
    except jax.errors.JAXTypeError as error:
        first = str(error).partition("\n")[0]
        message = f"{what}, {told(function)}, asks for numbers; {_ADVICE}. {first}"
        raise TypeError(message) from error
    except Exception as error:
        error.add_note(f"in {what}, {told(function)}")
        raise
    leaves = jax.tree.leaves(found)
    if not leaves or any(isinstance(leaf, str | bytes) for leaf in leaves):
        hint = " (is there a `return` in it?)" if found is None else ""
        raise TypeError(
            f"{what}, {told(function)}, returned {found!r}; it has to return an array{hint}"
        )
    return found


def told(function: Callable[..., Any]) -> str:
    """Returns a function's name, and where it is written."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}()" if code is None else f"{name}() ({code.co_filename}:{code.co_firstlineno})"
