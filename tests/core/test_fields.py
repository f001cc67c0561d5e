import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from yolo_jax.core.fields import Unfit, Within, check_fields

Share = Annotated[float, Within(0, 1, below=True)]


@dataclass(frozen=True)
class Inner:
    share: Share = 0.5
    pair: tuple[Share, Share] | None = None


@dataclass(frozen=True)
class Record:
    count: Annotated[int, Within(1)] = 3
    rate: Annotated[float, Within(0, above=True)] = 1
    limit: Annotated[int, Within(1)] | None = None
    kind: Literal["a", "b"] = "a"
    folder: Path = Path()
    names: tuple[str, ...] = ()
    strict: bool = False
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Range:
    least: float = 0
    most: float = 1

    def check(self) -> None:
        if self.least > self.most:
            raise ValueError(f"least is {self.least}; expected {self.most} or less")


@dataclass(frozen=True)
class OfRanges:
    sides: Range = field(default_factory=Range)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (Record(count=0), Unfit),
        (Record(inner=Inner(pair=(0.1, 2))), Unfit),
        (OfRanges(Range(least=2)), Unfit),
        (Record(count="3"), ValueError),  # pyright: ignore[reportArgumentType]
        (Record(kind="c"), ValueError),  # pyright: ignore[reportArgumentType]
    ],
)
def test_values_that_do_not_fit_are_told_from_other_types(record: Any, kind: type):
    with pytest.raises(ValueError) as raised:
        check_fields(record)
    assert type(raised.value) is kind


def test_what_only_fields_together_show():
    check_fields(OfRanges())
    with pytest.raises(ValueError, match=r"^of\.sides\.least is 2; expected 1 or less"):
        check_fields(OfRanges(Range(least=2)), "of.")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"count": 1, "rate": 1e-9, "limit": 7, "kind": "b", "names": ("x", "y", "z")},
        {"inner": Inner(share=0, pair=(0.1, 0))},
    ],
    ids=str,
)
def test_what_may_be(changes: dict[str, Any]):
    check_fields(dataclasses.replace(Record(), **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count is 0; expected a whole number of 1 or more"),
        ({"count": 2.0}, "count is 2.0; expected a whole number of 1 or more"),
        ({"count": True}, "count is True; expected a whole number of 1 or more"),
        ({"count": None}, "count is None; expected a whole number of 1 or more"),
        ({"rate": 0}, "rate is 0; expected a number of above 0"),
        ({"rate": math.nan}, "rate is nan; expected a number of above 0"),
        ({"rate": math.inf}, "rate is inf; expected a number of above 0"),
        ({"rate": "1"}, "rate is '1'; expected a number of above 0"),
        ({"limit": -1}, "limit is -1; expected a whole number of 1 or more or None"),
        ({"kind": "c"}, "kind is 'c'; expected one of 'a', 'b'"),
        ({"folder": "runs"}, "folder is 'runs'; expected a path"),
        ({"names": ("x", 1)}, "names is ('x', 1); expected (any number of a text)"),
        ({"strict": 1}, "strict is 1; expected True or False"),
        ({"inner": Inner(share=1)}, "inner.share is 1; expected a number of 0 to below 1"),
        ({"inner": Inner(pair=(0, 2))}, "inner.pair is (0, 2); expected (a number of 0 to below 1"),
    ],
    ids=str,
)
def test_what_may_not_be(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        check_fields(dataclasses.replace(Record(), **changes), "of.")
    assert str(caught.value).startswith(f"of.{message}")
