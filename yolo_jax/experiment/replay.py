"""Takes an update again that a run refused: the same parameters and batch, looked at closely."""

import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from yolo_jax.experiment.anchors import anchors_of
from yolo_jax.experiment.data import Data, open_data
from yolo_jax.experiment.network import build_model, pretrained_network
from yolo_jax.experiment.stages import Stage, compile_stage, plan_stages
from yolo_jax.model.callbacks import Callback
from yolo_jax.model.callbacks.callback import Logs
from yolo_jax.model.feed import as_fed
from yolo_jax.model.model import Model
from yolo_jax.report.pictures import save_batch_picture
from yolo_jax.run_folder import RunFolder
from yolo_jax.training.optimizers import parameter_path
from yolo_jax.training.step import FAILURES, Fed, example_keys

Record = Mapping[str, Any]  # as `RunFolder.refused` returns them
_LISTED = 8  # parameters and images


def replay(folder: Path, step: int | None = None) -> bool:
    """Takes a run's refused update again, prints what was not finite, and draws its batch.

    The run goes on from its newest checkpoint before the update, or from its start, up to it, with
    nothing written but the picture, `refused_STEP.jpg` in its folder.

    Args:
        folder: of the run.
        step: updates that were tried before it; None: the last that is noted.

    Returns:
        Whether the update was refused again.

    Raises:
        ValueError: the folder holds no run, or none of its updates was refused, or not this one; or
            what `train` refuses.
    """
    run = RunFolder(folder)
    record = _record(run, step)
    config = run.resolve(run.config(), jax.device_count())
    print(
        f"step {record['step']} (batch {record['batch']} of epoch {record['epoch']}, all from 0): "
        f"the {record['term']} was not finite"
    )
    data = open_data(config)
    class_names = data.train.dataset.class_names
    network = pretrained_network(config, len(class_names))
    anchors = anchors_of(run, config, data.train.dataset, begun=True)
    model, loss = build_model(config, network, len(class_names), anchors)
    steps = config.steps_per_epoch or len(data.train)
    stages = list(plan_stages(config, steps))[: record["stage"] + 1]
    for number, stage in enumerate(stages):
        compile_stage(config, stage, model, loss)
        aim = record if number == record["stage"] else None
        _go_on(model, stage, steps, data, folder / stage.checkpoints, aim)
    if (found := int(model.state.step)) != record["step"]:
        raise ValueError(
            f"{folder} is brought to step {found} where it was to be step {record['step']}: its "
            "checkpoints are of another run than its refused.json"
        )
    position = record["position"]
    images, batch = data.train.images_of(position), next(data.train.batches(position))
    print(f"images: {_listed(images)}")
    if not {*record["images"]} <= {*map(str, images)}:
        print(f"they were others then, so the data have changed: {_listed(record['images'])}")
    picture = folder / f"refused_{record['step']}.jpg"
    keys = example_keys(model.state.key, model.state.step, len(batch.image), None)
    augment = model.require_compiled().augment_at(position)
    assert augment is not None  # an experiment has one
    save_batch_picture(batch, augment, keys, picture)
    print(f"as the network sees them: {picture}")
    return _take_again(model, as_fed(batch), position)


def _record(run: RunFolder, step: int | None) -> Record:
    records = {record["step"]: record for record in run.refused()}
    if not records:
        kind = "has no refused update on record" if run.is_begun else "holds no run"
        raise ValueError(f"--replay {run.path}: the folder {kind}; there is nothing to replay")
    if step is not None and step not in records:
        raise ValueError(
            f"--replay {run.path}: there is no step {step} on record; expected one of "
            f"{', '.join(map(str, records))}"
        )
    return records[max(records) if step is None else step]


class _Reached(Exception):
    """The run stands before the update."""


class _UpTo(Callback):
    """Ends a fit behind so many batches of its stream."""

    def __init__(self, batches: int) -> None:
        self._batches = batches

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Ends it once they were taken."""
        if self.model.run.batches >= self._batches:
            raise _Reached


def _go_on(
    model: Model, stage: Stage, steps: int, data: Data, folder: Path, record: Record | None
) -> None:
    """Trains a stage to its end or to before the recorded update.

    Its watchers look at the validation loss after each epoch, as they did then.

    Args:
        model: compiled for the stage.
        stage: that is trained.
        steps: of an epoch.
        data: to train on.
        folder: of its checkpoints, of which it goes on from the newest before that update.
        record: of the update, where it is of this stage.
    """
    end, listeners, usable = stage.end, list(stage.watchers), _checkpoints(folder)
    if record is not None:
        # Amid an epoch a callback ends it; at an epoch's begin the epoch before has to end first.
        is_amid = record["batch"] > 0
        end = record["epoch"] + is_amid
        listeners += [_UpTo(record["position"])] if is_amid else []
        usable = [number for number in usable if number + is_amid <= record["position"]]
    with tempfile.TemporaryDirectory() as name:
        for number in usable:  # what is damaged is set aside here alone
            (Path(name) / str(number)).symlink_to((folder / str(number)).absolute())
        with suppress(_Reached):
            model.fit(
                data.train, epochs=end, initial_epoch=min(stage.first, end), steps_per_epoch=steps,
                validation_data=data.validation, resume=name, verbose=0, strict=True,
                callbacks=listeners,
            )  # fmt: skip


def _checkpoints(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]


def _take_again(model: Model, fed: Fed, position: int) -> bool:
    """Prints what is not finite in an update; returns whether the step refuses it."""
    compiled = model.require_compiled()
    losses, gradients = compiled.look(model.state, fed, position)
    print("losses: " + ", ".join(f"{name} {value:.6g}" for name, value in losses.items()))
    norms = {
        parameter_path(path): float(optax.tree.norm(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
    }
    bad = [name for name, norm in norms.items() if not np.isfinite(norm)]
    if bad:
        print(f"gradients that are not finite: {len(bad)} of {len(norms)}: {_listed(bad)}")
    else:
        largest = sorted(norms, key=lambda name: -norms[name])[:_LISTED]
        print("largest gradients: " + ", ".join(f"{name} {norms[name]:.3g}" for name in largest))
    if bad or not np.isfinite(list(losses.values())).all():
        print(f"first not finite: {_origin(partial(compiled.look, model.state, fed, position))}")
    sums = compiled.zero_sums(model.state, fed, training=True)
    state, _ = compiled.train(model.state, sums, [model.parallel.place_batch(fed)], position)
    _, term, count = map(int, np.asarray(state.failure))
    model.state = state
    print(
        f"taken again: the {FAILURES[term]} was not finite" if count else "taken again: all finite"
    )
    return bool(count)


def _origin(look: Callable[[], object]) -> str:
    """Returns the operation that first gave NaN or infinity, and the line that asked for it."""
    try:
        with jax.debug_nans(True), jax.debug_infs(True):
            look()
    except FloatingPointError as error:
        own = [f for f in traceback.extract_tb(error.__traceback__) if "yolo_jax" in f.filename]
        where = f" at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""
        return f"{str(error).splitlines()[0]}{where}"
    return "none, one operation after the other: it is the compiled step that overflows"


def _listed(names: Sequence[object]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(str, names[:_LISTED])) + more
