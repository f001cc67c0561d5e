"""Checkpoints of whole runs, by orbax: asynchronous, several kept, the best kept as well."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

PyTree = Any
# What orbax and tensorstore raise for files that are missing, cut short or overwritten.
_DAMAGES = (OSError, ValueError, KeyError, TypeError, AttributeError)
_log = logging.getLogger(__name__)


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
    name and renames it. A process killed amid a save leaves the ones before.

    Args:
        folder: made when missing.
        keep: the latest ones kept.
        monitor: the log key that decides the best one, which is kept too (least is best).
        read_only: leave the folder as it is. Unfinished saves of a killed process are deleted in
            the background by the one that writes; two doing so would trip each other.
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
        policies: list[Any] = [LatestN(keep)]
        if monitor is not None:
            policies.append(
                BestN(
                    get_metric_fn=lambda metrics: metrics[monitor],
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_handlers={
                "arrays": ocp.StandardCheckpointHandler(),
                "progress": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                create=True,
                cleanup_tmp_directories=not read_only,
                preservation_policy=AnyPreservationPolicy(policies),
                enable_async_checkpointing=True,
            ),
        )

    def save(
        self, step: int, arrays: PyTree, progress: dict[str, Any], logs: dict[str, float]
    ) -> None:
        """Starts a save; it goes on in the background while training does.

        Args:
            step: number of the checkpoint.
            arrays: pytree of arrays.
            progress: anything JSON holds.
            logs: the epoch's logs, among them the monitored one where it was measured.
        """
        metrics = None
        if self.monitor is not None and np.isfinite(logs.get(self.monitor, np.nan)):
            metrics = {self.monitor: float(logs[self.monitor])}
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

    def latest(self) -> int | None:
        """Returns the number of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def restore(self, like: PyTree) -> Restored | None:
        """Reads the newest checkpoint into the structure, dtypes and placement of `like`.

        Returns:
            None where the folder has none.

        Raises:
            ValueError: the checkpoint is of another model or optimizer, or damaged; names what
                differs, or the older ones that are there.
        """
        step = self.latest()
        if step is None:
            return None
        wanted = _named(like)
        try:
            found = dict(self._manager.item_metadata(step)["arrays"].items())
        except _DAMAGES as error:
            raise self._damaged(step, error) from error
        _check_same(self.folder / str(step), wanted, found)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore()
                ),
            )
        except _DAMAGES as error:
            raise self._damaged(step, error) from error
        leaves = [restored["arrays"][name] for name in wanted]
        arrays = jax.tree.unflatten(jax.tree.structure(like), leaves)
        _log.info("resumed from %s", self.folder / str(step))
        return Restored(step, arrays, restored["progress"])

    def _damaged(self, step: int, error: Exception) -> ValueError:
        older = sorted(other for other in self._manager.all_steps() if other != step)
        way = f"delete it to go on from {older[-1]}" if older else "there is no other; start anew"
        return ValueError(f"the checkpoint {self.folder / str(step)} is damaged ({error}); {way}")

    def wait(self) -> None:
        """Returns when every save is on the disk; raises what a save failed with."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        self._manager.close()


def _named(tree: PyTree) -> dict[str, Any]:
    """Returns a pytree's leaves by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _check_same(path: Path, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        raise ValueError(
            f"{path} is a checkpoint of another model or optimizer: it lacks {missing[:3]} "
            f"({len(missing)} in all) and has {extra[:3]} ({len(extra)} in all) that this run "
            "does not. Use the run's own config, or another run folder."
        )
    for name, leaf in wanted.items():
        if tuple(found[name].shape) != tuple(leaf.shape):
            raise ValueError(
                f"{path} is a checkpoint of another model: {name} has the shape "
                f"{tuple(found[name].shape)} there and {tuple(leaf.shape)} here. Use the run's own "
                "config, or another run folder."
            )
