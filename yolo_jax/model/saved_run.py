"""What a checkpoint holds of a fit, and how the fit goes on from it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import jax
import numpy as np

from yolo_jax.core.json_files import check_shape
from yolo_jax.model.graph.session import NUMBERED
from yolo_jax.training.checkpoint import Checkpoints, OtherModel

if TYPE_CHECKING:
    from yolo_jax.model.callbacks import Callback
    from yolo_jax.model.fit import FitRun


class _Progress(TypedDict):
    """What `progress_of` returns; a checkpoint that was made before two of them has neither."""

    epoch: int
    step: int
    batches: int
    fit: NotRequired[int]
    order: NotRequired[dict]
    sums: list | None
    callbacks: dict


def arrays_of(run: "FitRun") -> dict[str, Any]:
    """Returns the arrays that a checkpoint holds."""
    return {"state": run.model.parallel.lifted(run.model.state)}


def progress_of(run: "FitRun") -> dict[str, Any]:
    """Returns the rest of what a checkpoint holds; amid an epoch its sums are fetched."""
    finished = run.step == run.steps and run.ended
    sums = None
    if not finished and run.sums is not None:
        sums = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(run.sums)]
    return {
        "epoch": run.epoch + 1 if finished else run.epoch,
        "step": 0 if finished else run.step,
        "batches": run.batches,
        "fit": run.number,
        "order": run.feed.order,
        "sums": sums,
        "callbacks": {name: c.state_dict() for name, c in _named_callbacks(run).items()},
    }


def resume(run: "FitRun", folder: Any) -> None:
    """Goes on from the newest checkpoint of a folder, if it has one.

    Raises:
        ValueError: it stands before the `initial_epoch` that was asked for, or is of another
            model, optimizer or order of rows.
    """
    if Path(folder).is_file():
        raise ValueError(f"resume={folder} is a file; expected a Checkpoint callback's folder")
    checkpoints = Checkpoints(folder, monitor=None, read_only=True)
    try:
        restored = checkpoints.restore(arrays_of(run))
    except OtherModel as error:
        raise ValueError(f"{error} If it is layers' names that differ: {NUMBERED}.") from error
    checkpoints.close()
    if restored is None:
        return
    progress = restored.progress
    try:
        check_shape(progress, _Progress)
    except ValueError as error:
        raise ValueError(f"the checkpoint of step {restored.step} in {folder}: {error}") from error
    if progress["epoch"] < run.epoch:
        raise ValueError(
            f"{folder} stands at epoch {progress['epoch']}, before initial_epoch "
            f"{run.epoch}: leave initial_epoch out to go on from there"
        )
    order = progress.get("order", run.feed.order)
    if order != run.feed.order:
        raise ValueError(
            f"{folder} is of a run whose rows have another order, so that it cannot go on "
            f"amid them: {_shown(order)} there, {_shown(run.feed.order)} here. Give the same "
            "data, batch_size and shuffle as then, or start in another folder"
        )
    run.number = progress.get("fit", 0)
    run.model.state = run.model.parallel.place(run.model.parallel.lowered(restored.arrays["state"]))
    run.epoch, run.step = progress["epoch"], progress["step"]
    run.batches, run.stored_sums = progress["batches"], progress["sums"]
    for name, callback in _named_callbacks(run).items():
        # A callback that the interrupted run did not have starts afresh.
        if name in progress["callbacks"]:
            callback.load_state_dict(progress["callbacks"][name])


def _named_callbacks(run: "FitRun") -> "dict[str, Callback]":
    """Returns the callbacks by class name, numbered where one class comes twice."""
    named: dict[str, Any] = {}
    for callback in run.callbacks:
        kind = type(callback).__name__
        same = sum(type(other) is type(callback) for other in named.values())
        named[f"{kind}_{same}" if same else kind] = callback
    return named


def _shown(order: dict[str, Any]) -> str:
    """Returns what fixes an order, as an error shows it."""
    shown = ", ".join(f"{name}={value!r}" for name, value in order.items())
    return shown or "one of the data's own"
