"""What the process counts while models are built: names by kind, and draws of parameters."""

import re
from collections import Counter

import jax
from jaxtyping import Array, Key

# For errors about names that differ from those in a file.
NUMBERED = (
    "Layers that nobody named are numbered in the whole process (dense_1, dense_2 …), so a model "
    "that is built again gets other names: give layers names (name=…), or call K.clear_session() "
    "before building it, which starts the numbers again"
)
_names: Counter[str] = Counter()
# The seed of all parameters, and how many keys were drawn from it. Plain numbers: a key is an
# array, and importing the package makes none.
_drawn = {"seed": 0, "count": 0}


def unique_name(prefix: str) -> str:
    """Returns `dense_1`, `dense_2` … for `dense`, counting in the whole process as Keras does."""
    _names[prefix] += 1
    return f"{prefix}_{_names[prefix]}"


def chosen_name(given: str | None, kind: str) -> str:
    """Returns the name that somebody chose, or a numbered one.

    Raises:
        TypeError: it is no text.
    """
    if given is not None and not isinstance(given, str):
        raise TypeError(f"name is a text, or None for {kind}_1 and so on; found {given!r}")
    return given or unique_name(kind)


def clear_session() -> None:
    """Starts the numbers of names again; what `K.clear_session` means here."""
    _names.clear()


def keras_name(class_name: str) -> str:
    """Returns Keras's name for layers of a class: `leaky_re_lu` for `LeakyReLU`."""
    split = re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", class_name)
    name = re.sub("([a-z])([A-Z])", r"\1_\2", split).lower()
    return f"private{name}" if name.startswith("_") else name


def set_random_seed(seed: int) -> None:
    """Makes the parameters of layers built from now on a function of `seed` and their order."""
    _drawn.update(seed=seed, count=0)


def next_key() -> Key[Array, ""]:
    """Returns the key of the next draw of parameters."""
    key = jax.random.fold_in(jax.random.key(_drawn["seed"]), _drawn["count"])
    _drawn["count"] += 1
    return key
