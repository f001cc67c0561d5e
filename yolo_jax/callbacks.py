"""The callbacks, under Keras's names."""

from yolo_jax.model.callbacks import (
    Callback,
    CallbackList,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    ExponentialMovingAverage,
    LambdaCallback,
    LearningRateScheduler,
    MeanAP,
    ModelCheckpoint,
    Profile,
    ProgbarLogger,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)
from yolo_jax.model.history import History

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "Checkpoint",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "MeanAP",
    "ModelCheckpoint",
    "Profile",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]
