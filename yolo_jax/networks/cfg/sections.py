"""The text of Darknet's `.cfg` files: sections of options, each with its line.

    [convolutional]   # or ; before what is for the reader alone
    filters = 32

Source: darknet's parser.c and option_list.c, which drop all white space.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from yolo_jax.core.files import open_file

# Of the sections that are known, and the short names that darknet takes too.
KINDS = {
    "net": "net",
    "network": "net",
    "convolutional": "convolutional",
    "conv": "convolutional",
    "maxpool": "maxpool",
    "max": "maxpool",
    "route": "route",
    "shortcut": "shortcut",
    "upsample": "upsample",
    "yolo": "yolo",
}
# All that a network is built from; whatever else [net] has is of training.
_OF_NET = ("width", "height", "channels")
_MOST_BYTES = 1_000_000
_MOST_SHOWN = 60

NumberT = TypeVar("NumberT", int, float)
ValueT = TypeVar("ValueT")


class Option(NamedTuple):
    """The text behind an option's `=`, without spaces, and its line, counted from 1."""

    text: str
    line: int


@dataclass(frozen=True)
class Section:
    """A section of a `.cfg` file.

    Attributes:
        path: of the file.
        kind: its name, the long one where there are two.
        line: of its name, counted from 1.
        options: by name; of [net], those of the network's input.
    """

    path: Path
    kind: str
    line: int
    options: dict[str, Option] = field(default_factory=dict)

    def fault(self, message: str, option: str | None = None) -> ValueError:
        """Returns the error that names the file, the option's line or else the section's."""
        found = self.options.get(option) if option else None
        line = found.line if found else self.line
        return ValueError(f"{self.path}: line {line}: [{self.kind}] {message}")

    def whole(self, name: str, default: int | None = None, *, least: int = 0) -> int:
        """Returns a whole number; see `number`."""
        return self._one(name, default, _whole, "a whole number", least)

    def number(self, name: str, default: float | None = None, *, least: float = 0) -> float:
        """Returns a number.

        Args:
            name: of the option.
            default: when the section lacks it; None: it must have it.
            least: smallest that is taken.

        Raises:
            ValueError: there is none, it is no such number, or too small.
        """
        return self._one(name, default, _number, "a finite number", least)

    def _one(
        self,
        name: str,
        default: NumberT | None,
        read: Callable[[str], NumberT | None],
        expected: str,
        least: float,
    ) -> NumberT:
        if name not in self.options:
            return self._default(name, default)
        value = read(self.options[name].text)
        if value is None or value < least:
            raise self._is_none(name, f"{expected}, {least} or more")
        return value

    def wholes(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Returns whole numbers with commas between; errors as `number`."""
        return self._list(name, default, _whole, "whole numbers")

    def numbers(self, name: str, default: tuple[float, ...] | None = None) -> tuple[float, ...]:
        """Returns numbers with commas between; errors as `number`."""
        return self._list(name, default, _number, "finite numbers")

    def _list(
        self,
        name: str,
        default: tuple[NumberT, ...] | None,
        read: Callable[[str], NumberT | None],
        expected: str,
    ) -> tuple[NumberT, ...]:
        if name not in self.options:
            return self._default(name, default)
        # Darknet's own files have a comma behind the last number here and there.
        texts = self.options[name].text.removesuffix(",").split(",")
        values = [read(text) for text in texts]
        found = tuple(value for value in values if value is not None)
        if len(found) < len(values):
            raise self._is_none(name, f"{expected} with commas between")
        return found

    def choice(self, name: str, default: str, choices: Collection[str]) -> str:
        """Returns one of a few words.

        Raises:
            ValueError: it is none of them.
        """
        found = self.options[name].text if name in self.options else default
        if found not in choices:
            raise self._is_none(name, f"one of {', '.join(sorted(choices))}")
        return found

    def _default(self, name: str, default: ValueT | None) -> ValueT:
        if default is None:
            raise self.fault(f"has no {name}, which it needs: add {name}=…")
        return default

    def _is_none(self, name: str, expected: str) -> ValueError:
        return self.fault(f"{name}={_shown(self.options[name].text)}; expected {expected}", name)


def read_sections(path: Path | str) -> list[Section]:
    """Reads a `.cfg` file's sections, [net] first; what their options mean is not looked at.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, is no text or too large, does not start with [net], has a
            section that is not known, a line that is none, or an option twice; the message names
            the line.
    """
    path = Path(path)
    sections: list[Section] = []
    for number, raw in enumerate(_read_text(path).split("\n"), 1):
        line = "".join(re.split("[#;]", raw, maxsplit=1)[0].split())
        if not line:
            continue
        if line.startswith("["):
            sections.append(_section(path, line, number, is_first=not sections))
        else:
            _add_option(path, line, number, sections)
    if not sections:
        raise ValueError(f"{path} has no sections; a network's starts with [net]")
    return sections


def nearest(name: str, known: Collection[str]) -> str:
    """Returns `; did you mean "…"?` of the most similar name, or nothing where none is."""
    similar = difflib.get_close_matches(name[:_MOST_SHOWN], known, 1)
    return f"; did you mean {similar[0]}?" if similar else ""


def _read_text(path: Path) -> str:
    with open_file(path, "a .cfg file") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{path} has more than {_MOST_BYTES} bytes; it is no .cfg file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: line {line}: byte {data[error.start]:#04x} is not UTF-8; it is no text, "
            "such as a .weights file, or in another encoding"
        ) from error


def _section(path: Path, line: str, number: int, *, is_first: bool) -> Section:
    name = line.removeprefix("[").removesuffix("]")
    if not line.endswith("]"):
        raise ValueError(f"{path}: line {number}: {_shown(line)} lacks its closing ]")
    if name not in KINDS:
        raise ValueError(
            f"{path}: line {number}: there is no section {_shown(line)} here, only "
            f"{', '.join(dict.fromkeys(KINDS.values()))}{nearest(name, KINDS)}"
        )
    if is_first != (KINDS[name] == "net"):
        found = "the first section is" if is_first else "there is a second"
        raise ValueError(
            f"{path}: line {number}: {found} [{name}]; a .cfg has one [net], before its layers"
        )
    return Section(path, KINDS[name], number)


def _add_option(path: Path, line: str, number: int, sections: list[Section]) -> None:
    name, equals, value = line.partition("=")
    if not (name and equals and value):
        raise ValueError(
            f"{path}: line {number}: {_shown(line)} is neither [section] nor option=value"
        )
    if not sections:
        raise ValueError(
            f"{path}: line {number}: {_shown(line)} stands before any section; [net] comes first"
        )
    options = sections[-1].options
    if sections[-1].kind == "net" and name not in _OF_NET:
        return  # darknet's own files have some of them twice
    if name in options:
        raise ValueError(
            f"{path}: line {number}: {_shown(name)} is there twice in its section, on line "
            f"{options[name].line} too; take one out"
        )
    options[name] = Option(value, number)


def _shown(text: str) -> str:
    cut = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
    return cut if cut.isprintable() else repr(cut)


def _whole(text: str) -> int | None:
    # As C's int, which has no more digits.
    return int(text) if re.fullmatch("[+-]?[0-9]{1,9}", text) else None


def _number(text: str) -> float | None:
    if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None
