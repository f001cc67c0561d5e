"""Checkpoints of whole runs, by orbax: asynchronous, several kept, the best kept as well.

Each has a list of checksums, written before it appears under its name. All processes of a run take
part in a save; which checkpoint they go on from the first one chooses.
"""

import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from yolo_jax.training import distributed
from yolo_jax.training.checksums import CheckpointDamaged, verify
from yolo_jax.training.manager import DAMAGES, open_manager
from yolo_jax.training.refusals import failing_clearly

PyTree = Any
_REPLACED = ".replaced"
_log = logging.getLogger(__name__)


class OtherModel(ValueError):
    """A checkpoint of another model or optimizer."""


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back.

    Attributes:
        step: its number.
        arrays: the pytree that was saved, in the given structure.
        progress: the JSON that was saved beside it.
    """

    step: int
    arrays: PyTree
    progress: dict[str, Any]


class Checkpoints:
    """A folder of checkpoints, numbered by the run's step.

    A checkpoint appears in the folder only when it is whole: orbax writes it under a temporary
    name and renames it. A process killed amid a save leaves the ones before. One that is damaged
    later is set aside as `NUMBER.damaged`, and the one before it is taken. One that is saved anew
    lies at `NUMBER.replaced` until the new one is whole.

    Args:
        folder: made when missing.
        keep: the latest ones kept.
        monitor: the log key that decides the best one, which is kept too (least is best).
        read_only: save nothing; what is damaged is set aside all the same. Unfinished saves of a
            killed process are deleted in the background by the one that writes; two doing so
            would trip each other.

    Raises:
        ValueError: what orbax keeps of a checkpoint is damaged.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        keep: int = 2,
        monitor: str | None = "val_loss",
        read_only: bool = False,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.monitor = monitor
        self._handed_over = False  # whether the last save goes on in orbax's threads
        self._manager = open_manager(self.folder, keep, monitor, read_only=read_only)
        if not read_only and distributed.is_first():
            with failing_clearly(self.folder):
                self._check_writable()

    def _check_writable(self) -> None:
        """Makes a folder as a save does: where that fails, orbax's threads wait ten minutes."""
        probe = self.folder / f".probe{os.getpid()}"
        probe.mkdir(exist_ok=True)
        probe.rmdir()

    def save(
        self, step: int, arrays: PyTree, progress: dict[str, Any], logs: dict[str, float]
    ) -> None:
        """Starts a save; it goes on in the background while training does.

        Args:
            step: number of the checkpoint. One that has it already is replaced: a run that was
                stopped behind an epoch's last batch ends that epoch at the same step.
            arrays: pytree of arrays.
            progress: anything JSON holds.
            logs: the epoch's logs, among them the monitored one where it was measured.
        """
        metrics = None
        if self.monitor is not None and np.isfinite(logs.get(self.monitor, np.nan)):
            metrics = {self.monitor: float(logs[self.monitor])}
        with failing_clearly(self.folder):
            self._await_save()  # the one before, as orbax does
            if distributed.is_first():
                self._check_writable()
            if step in self._manager.all_steps():
                self._make_room(step)
            self._handed_over = False
            # Leaves by their paths: containers of any kind (NamedTuple, nnx.State) restore alike.
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardSave(_named(arrays)),
                    progress=ocp.args.JsonSave(progress),
                ),
                metrics=metrics,
                force=True,
            )
            self._handed_over = True

    def _make_room(self, step: int) -> None:
        """Moves a checkpoint from where another one is to be."""
        self._manager.wait_until_finished()
        if distributed.is_first():
            replaced = self.folder / f"{step}{_REPLACED}"
            shutil.rmtree(replaced, ignore_errors=True)  # of an heir that is whole, and goes there
            (self.folder / str(step)).rename(replaced)
        distributed.wait_for_all(f"room for checkpoint {step}")
        self._manager.reload()

    def _end_replacing(self) -> None:
        """Deletes the checkpoints that were replaced; puts back those whose heirs are not sound."""
        for replaced in self.folder.glob(f"*{_REPLACED}"):
            heir = replaced.with_suffix("")
            try:
                verify(heir)
            except CheckpointDamaged as error:
                if heir.exists():
                    self._set_aside({int(heir.name): error}, "the one that it replaced is back")
                replaced.rename(heir)
            else:
                shutil.rmtree(replaced)

    def restore(self, like: PyTree) -> Restored | None:
        """Reads the newest sound checkpoint into the structure, dtypes and placement of `like`.

        Those that are damaged are set aside, with a warning that says why.

        Returns:
            None where the folder has none.

        Raises:
            ValueError: the checkpoint is of another model or optimizer, whose differences are
                named, or of a later version; or all there are are damaged.
        """
        step = self._choose()
        if step is None:
            return None
        wanted = _named(like)
        folder = self.folder / str(step)
        try:
            found = dict(self._manager.item_metadata(step)["arrays"].items())
            _check_same(folder, wanted, found)
            target = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore()
                ),
            )
        except OtherModel:
            raise
        except DAMAGES as error:
            raise ValueError(
                f"the checkpoint {folder} cannot be read, though its files are those that were "
                f"saved ({error}); delete it to go on from the one before"
            ) from error
        if not isinstance(restored["progress"], dict):
            raise ValueError(f"{folder}/progress holds no object, but {restored['progress']!r:.60}")
        leaves = [restored["arrays"][name] for name in wanted]
        arrays = jax.tree.unflatten(jax.tree.structure(like), leaves)
        _log.info("resumed from %s", folder)
        return Restored(step, arrays, restored["progress"])

    def _choose(self) -> int | None:
        """Returns the number of the newest sound checkpoint, the same in every process."""
        chosen, error = -1, None
        if jax.process_index() == 0:
            try:
                self._end_replacing()
                self._manager.reload()
                chosen = self._newest_sound()
            except ValueError as found:
                chosen, error = -2, found
        if jax.process_count() > 1:
            chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
            self._manager.reload()
        if chosen == -2:
            raise error or ValueError(
                f"process 0 found no checkpoint in {self.folder} to go on from; its log says why"
            )
        return None if chosen < 0 else chosen

    def _newest_sound(self) -> int:
        """Returns the number of the newest sound checkpoint, −1 where there is none at all."""
        damaged = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            folder = self.folder / str(step)
            try:
                verify(folder)
            except CheckpointDamaged as error:
                damaged[step] = error
                continue
            self._set_aside(damaged, f"going on from {step}")
            return step
        if damaged:
            listed = "; ".join(f"{step}: {error}" for step, error in damaged.items())
            raise ValueError(
                f"all checkpoints of {self.folder} are damaged ({listed}); move the folder away to "
                "start anew"
            )
        return -1

    def _set_aside(self, damaged: dict[int, CheckpointDamaged], instead: str) -> None:
        """Renames checkpoints, lest they count among those that are kept."""
        for step, error in damaged.items():
            folder = self.folder / str(step)
            aside = folder.with_name(f"{step}.damaged")
            while aside.exists():
                aside = aside.with_name(f"{aside.name}.damaged")
            _log.warning(
                "the checkpoint %s is damaged (%s); it is set aside as %s; %s",
                folder, error, aside.name, instead,
            )  # fmt: skip
            folder.rename(aside)
        if damaged:
            self._manager.reload()

    def check(self) -> None:
        """Raises what a save failed with in this process of several, the others of which wait."""
        if self._manager.failure is not None and jax.process_count() > 1:
            with failing_clearly(self.folder):
                raise self._manager.failure

    def wait(self) -> None:
        """Returns when every save is on the disk; raises what a save failed with."""
        with failing_clearly(self.folder):
            self._await_save()
            self._manager.wait_until_finished()

    def _await_save(self) -> None:
        """Waits in short turns: one that waits for a lock may not hear a signal.

        A save that was interrupted before its threads were started is in progress for ever.
        """
        while self._handed_over and self._manager.is_saving_in_progress():
            self.check()
            time.sleep(0.02)

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        with failing_clearly(self.folder):
            self._await_save()
            self._manager.close()
        if distributed.is_first():
            self._end_replacing()


def _named(tree: PyTree) -> dict[str, Any]:
    """Returns a pytree's leaves by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _check_same(path: Path, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        raise OtherModel(
            f"{path} is a checkpoint of another model or optimizer: it lacks {missing[:3]} "
            f"({len(missing)} in all) and has {extra[:3]} ({len(extra)} in all) that this run "
            "does not. Use the run's own config, or another run folder."
        )
    for name, leaf in wanted.items():
        if tuple(found[name].shape) != tuple(leaf.shape):
            raise OtherModel(
                f"{path} is a checkpoint of another model: {name} has the shape "
                f"{tuple(found[name].shape)} there and {tuple(leaf.shape)} here. Use the run's own "
                "config, or another run folder."
            )
