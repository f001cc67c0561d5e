"""Callbacks: hooks into fit, evaluate and predict, under Keras's names and in Keras's order."""

from yolo_jax.model.callbacks.callback import HOOKS, Callback, CallbackList, LambdaCallback, Logs
from yolo_jax.model.callbacks.control import LearningRateScheduler, TerminateOnNaN
from yolo_jax.model.callbacks.each_trial import EachTrial
from yolo_jax.model.callbacks.engine import ExponentialMovingAverage, Profile
from yolo_jax.model.callbacks.mean_ap import MeanAP
from yolo_jax.model.callbacks.monitors import EarlyStopping, ReduceLROnPlateau
from yolo_jax.model.callbacks.progress import ProgbarLogger
from yolo_jax.model.callbacks.records import CSVLogger, TensorBoard
from yolo_jax.model.callbacks.saving import Checkpoint, ModelCheckpoint
from yolo_jax.model.callbacks.trackers import Aim, MLflow, Tracker, WandB

__all__ = [
    "HOOKS",
    "Aim",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "Checkpoint",
    "EachTrial",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
    "MLflow",
    "MeanAP",
    "ModelCheckpoint",
    "Profile",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
    "Tracker",
    "WandB",
]
