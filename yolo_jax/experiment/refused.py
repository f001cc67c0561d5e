"""Which updates of a run were refused, and the images of their batches, kept in its folder."""

import logging
from typing import Any

from yolo_jax.data.pipeline import Loader
from yolo_jax.model.callbacks import Callback
from yolo_jax.run_folder import RunFolder

_log = logging.getLogger(__name__)


class RefusedUpdates(Callback):
    """Writes `refused.json` at each epoch's end and where a fit ends, by which one can replay them.

    Of several since the host had looked, the first has a record, with their number. Of several
    processes the first names its images.

    Args:
        run: the run's folder.
        stage: number of the stage, from 0.
        loader: of the training images.
    """

    def __init__(self, run: RunFolder, stage: int, loader: Loader) -> None:
        self._folder, self._stage, self._loader = run, stage, loader
        self._written = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes those of the epoch."""
        self.close()

    def close(self) -> None:
        """Writes those that are new; a run that goes on from before a step replaces its record."""
        new = self.model.run.refusals.seen[self._written :]
        if not new:
            return
        records = {record["step"]: record for record in self._folder.refused()}
        for refusal in new:
            images = [str(path) for path in self._loader.images_of(refusal.position)]
            records[refusal.step] = {"stage": self._stage, **refusal._asdict(), "images": images}
        self._folder.save_refused([records[step] for step in sorted(records)])
        self._written += len(new)
        folder = self._folder.path
        _log.warning("yolo-jax train --replay %s takes that update again, to look at it", folder)
