"""The callbacks that an experiment's `track` names."""

from collections.abc import Iterator

from yolo_jax.config import ExperimentConfig
from yolo_jax.model.callbacks import Aim, MLflow, TensorBoard, Tracker, WandB
from yolo_jax.run_folder import flatten


def make_trackers(config: ExperimentConfig) -> Iterator[TensorBoard | Tracker]:
    """Yields the config's trackers, each once; they last over all stages, as one run of theirs.

    Raises:
        ValueError: the library of one is not there.
    """
    what = (config.track_project, config.name, flatten(config))
    for name in dict.fromkeys(config.track):
        match name:
            case "tensorboard":
                yield TensorBoard(config.runs / config.name / "tensorboard")
            case "wandb":
                yield WandB(*what)
            case "mlflow":
                yield MLflow(*what)
            case "aim":
                yield Aim(*what)
