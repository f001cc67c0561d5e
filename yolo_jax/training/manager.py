"""Orbax's manager of a folder of checkpoints, set up as `checkpoint` needs it."""

import asyncio
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN
from orbax.checkpoint.path import atomicity

from yolo_jax.training.checksums import write_checksums

# What orbax and tensorstore raise for files that are missing, cut short or overwritten.
DAMAGES = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError),
)


class _SummedPath(atomicity.AtomicRenameTemporaryPath):
    """Writes the checksums of a save's files before it takes its name."""

    async def finalize(self) -> None:
        await asyncio.to_thread(write_checksums, Path(self.get()))
        await super().finalize()


class Manager(ocp.CheckpointManager):
    """Leaves it to `distributed.Preemption` to ask where to stop, and tells at once of a failure.

    JAX's service compares the numbers that it is asked with; orbax's, of checkpoints, are others.

    Attributes:
        failure: of a save, before orbax waits for the other processes, which wait for this one.
    """

    failure: BaseException | None = None

    def _wait_for_checkpointers(self) -> None:
        try:
            super()._wait_for_checkpointers()
        except BaseException as error:
            self.failure = error
            raise

    def reached_preemption(self, step: int) -> bool:
        """Tells nothing."""
        return False


def open_manager(folder: Path, keep: int, monitor: str | None, *, read_only: bool) -> Manager:
    """Returns the manager of a folder, which is made when missing.

    Args:
        folder: absolute.
        keep: the latest ones kept.
        monitor: the log key that decides the best one.
        read_only: delete no unfinished saves.

    Raises:
        ValueError: what orbax keeps of a checkpoint is damaged.
        OSError: the folder cannot be made or read.
    """
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
    try:
        return Manager(
            folder,
            item_handlers={
                "arrays": ocp.StandardCheckpointHandler(),
                "progress": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                create=True,
                cleanup_tmp_directories=not read_only,
                preservation_policy=AnyPreservationPolicy(policies),
                enable_async_checkpointing=True,
                temporary_path_class=_SummedPath,
            ),
        )
    except DAMAGES as error:
        if isinstance(error, OSError):  # of the folder itself
            raise
        raise ValueError(
            f"the checkpoints of {folder} cannot be listed: the _CHECKPOINT_METADATA of one is "
            f"damaged ({error!r:.200}); move that checkpoint away to go on from another"
        ) from error
