"""The largest batch that fits a chip: by a line through what is known, then by compiling it."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from yolo_jax.config import ExperimentConfig
from yolo_jax.plan.chips import Place
from yolo_jax.plan.step import DoesNotFit, step_figures

_log = logging.getLogger(__name__)
# Of remat and accumulate. More parts than two lengthen the batch and change little else.
_CHOICES = ((False, 1), (True, 1), (False, 2))
_UNIT = 8  # rows of a part, of which a batch has a multiple: TPUs pad to it
_FIRST = 8  # units that are tried first
_MOST_COMPILES = 7


def fit_rows(config: ExperimentConfig, place: Place) -> list[dict[str, Any]]:
    """Returns, for each choice of remat and accumulation, the most rows a chip, and their figures.

    Args:
        config: whose batch is not looked at.
        place: that it is for.
    """
    return [_most_rows(config, place, *choice) for choice in _CHOICES]


def _most_rows(
    config: ExperimentConfig, place: Place, remat: bool, accumulate: int
) -> dict[str, Any]:
    train = dataclasses.replace(config.train, remat=remat, accumulate=accumulate)
    figures: dict[int, dict[str, Any]] = {}

    def measure(rows: int) -> float:
        chosen = dataclasses.replace(
            config, train=train, batch_size=None, batch_size_per_device=rows
        )
        figures[rows] = step_figures(chosen, place, rows * place.chips)
        held = figures[rows]["GiB of HBM a chip"]
        _log.info("remat %s, accumulate %d: %d rows take %.2f GiB", remat, accumulate, rows, held)
        if not figures[rows]["fits"]:
            raise DoesNotFit(f"{rows} rows take {held} GiB")
        return held

    rows, compiles = most_rows(measure, place.chip.hbm_gib, _UNIT * accumulate)
    line = {"remat": remat, "accumulate": accumulate, "rows a chip": rows, "compiles": compiles}
    line |= {"GiB a chip": 0.0, "images/s": 0.0}
    if rows:
        line["GiB a chip"] = figures[rows]["GiB of HBM a chip"]
        line["images/s"] = figures[rows]["images/s"]
    return line


def most_rows(measure: Callable[[int], float], limit: float, unit: int) -> tuple[int, int]:
    """Returns about the most rows that fit, 0 for none, and the number of measurements.

    They fill nine tenths of the memory, or an eighth more does not fit. Memory grows nearly by a
    line: the line through the two largest that fit says where to look next, and what does not fit
    bounds the search from above.

    Args:
        measure: returns the memory of so many rows, or raises DoesNotFit.
        limit: of memory.
        unit: rows are a multiple of it.
    """
    fitting = {0: 0.0}
    too_many: int | None = None
    rows = _FIRST * unit
    for count in range(1, _MOST_COMPILES + 1):
        try:
            fitting[rows] = measure(rows)
        except DoesNotFit:
            too_many = rows
        best = max(fitting)
        is_close = too_many is not None and too_many - best <= max(unit, best // 8)
        if is_close or fitting[best] >= 0.9 * limit:
            return best, count
        guess = (best + (too_many or 0)) // 2
        if best:
            (low, before), (high, held) = sorted(fitting.items())[-2:]
            a_row = max((held - before) / (high - low), 1e-9)
            aimed = min(high + int((0.97 * limit - held) / a_row), 16 * high)
            guess = aimed if too_many is None or aimed < too_many else guess
        rows = max(guess // unit * unit, best + unit)
    return max(fitting), _MOST_COMPILES
