"""An experiment's run: what `yolo-jax train` does with a config."""

from yolo_jax.experiment.anchors import choose_anchors
from yolo_jax.experiment.data import Data, open_data
from yolo_jax.experiment.network import build_model, pretrained_network
from yolo_jax.experiment.replay import replay
from yolo_jax.experiment.run import train
from yolo_jax.experiment.stages import Stage, compile_stage, fit_stages, plan_stages
from yolo_jax.experiment.together import train_together

__all__ = [
    "Data",
    "Stage",
    "build_model",
    "choose_anchors",
    "compile_stage",
    "fit_stages",
    "open_data",
    "plan_stages",
    "pretrained_network",
    "replay",
    "train",
    "train_together",
]
