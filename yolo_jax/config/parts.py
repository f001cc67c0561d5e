"""The parts of an experiment's config, a dataclass each; their fields' ranges stand beside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from yolo_jax.core.fields import Within
from yolo_jax.detection.loss_terms import (
    BoxForm,
    ClassificationForm,
    IgnoreScope,
    ObjectnessTarget,
)
from yolo_jax.model.refusals import OnNonfinite
from yolo_jax.training.optimizers import OptimizerKind
from yolo_jax.training.parallel import Strategy

# Ranges are checked by `core.fields.check_fields` before anything is loaded.
Positive = Annotated[float, Within(0, above=True)]
NotNegative = Annotated[float, Within(0)]
Decay = Annotated[float, Within(0, 1, below=True)]
Share = Annotated[float, Within(0, 1)]
Factor = Annotated[float, Within(0, 1, above=True, below=True)]
Count = Annotated[int, Within(1)]
Side = Annotated[int, Within(1, 2**14)]
InputSide = Annotated[int, Within(32, 2**14, multiple_of=32)]
CountOrZero = Annotated[int, Within(0)]


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Attributes:
        train: the training images: COCO JSON, YOLO data.yaml, Pascal VOC folder or VOCdevkit,
            keras-yolo3's annotation lines (.txt), a folder that `yolo-jax convert` wrote, or
            tfds:NAME.
        validation: images that the validation loss is taken on, and choices are made on; None:
            `validation_share` of the training images, which are not trained on then.
        held_out: images that choose nothing; the final figures are theirs. None: `held_out_share`
            of the training images.
        train_split: which part of a set that has parts, such as `train`; of a VOCdevkit
            `2007_test`, or several as in `2007_trainval+2012_trainval`.
        validation_split: the same of the validation images.
        held_out_split: the same of the held-out images.
        validation_share: of the training images, the same ones whatever the seed.
        held_out_share: the same, other ones.
        classes: file of class names, one a line, for annotations that hold numbers alone; of others
            it gives the order.
        canvas_size: side in px of the square that training images are letterboxed into before
            augmentation crops from it; None: the input size.
        max_boxes: boxes kept an image; None: the data's maximum.
        threads: that decode images, when there are no `workers`.
        workers: processes that decode training images; 0: threads do. The other sets are read in
            passes, each of which would start processes anew: threads decode those.
        cache: keep decoded images in `ram` (threads alone) or on `disk`; `none` keeps none.
        cache_folder: of the cache on disk; None: in the cache folder of yolo_jax.
        strict: a bad record is an error rather than a report.
        order_seed: of the order of the images, and of what is mixed; None: the experiment's seed.
            With one of its own, trials of several seeds see the same batches.
    """

    train: Path
    validation: Path | None = None
    held_out: Path | None = None
    train_split: str | None = None
    validation_split: str | None = None
    held_out_split: str | None = None
    validation_share: Factor = 0.1
    held_out_share: Factor = 0.1
    classes: Path | None = None
    canvas_size: Side | None = None
    max_boxes: Count | None = None
    threads: Count = 2
    workers: CountOrZero = 0
    cache: Literal["none", "ram", "disk"] = "none"
    cache_folder: Path | None = None
    strict: bool = False
    order_seed: Annotated[int, Within(0, 2**32, below=True)] | None = None


@dataclass(frozen=True)
class NetworkConfig:
    """The network.

    Attributes:
        kind: `tiny` (YOLOv3-tiny), `yolov3` (Darknet-53) or `yolov3_spp` (the same with spatial
            pyramid pooling).
        input_size: side of the square input in px, a multiple of 32.
        weights: `yolov3-tiny` for the official COCO weights, `scratch`, or a path of a .weights
            file: with COCO's 80 classes, with as many as the data, or of the first layers alone
            (darknet53.conv.74).
        anchors: the network's `default`, or `kmeans` of the training boxes as augmentation leaves
            them.
    """

    kind: Literal["tiny", "yolov3", "yolov3_spp"] = "tiny"
    input_size: InputSide = 416
    weights: Annotated[str, tyro.conf.arg(aliases=("--weights",))] = "yolov3-tiny"
    anchors: Literal["default", "kmeans"] = "default"


@dataclass(frozen=True)
class LossConfig:
    """The loss.

    Attributes:
        ignore_thresh: IoU from which a prediction without an object is not punished.
        exact_centres: False rounds box centres down to whole pixels, as keras-yolo3 does.
        box: `yolov3` learns centre and size by themselves; `giou`, `diou` and `ciou` learn that
            overlap of the decoded box.
        objectness: what a prediction with an object is to say: `one`, or its box's `iou`.
        classification: `bce`, or `focal`.
        label_smoothing: ε of the class bits, which are 1 − ε/2 and ε/2.
        ignore_scope: true boxes that `ignore_thresh` is about: of the prediction's `scale`, or
            `all`, as darknet does.
        match_iou: IoU of sizes above which anchors beside a box's best learn it too, as darknet's
            `iou_thresh`; None: none do.
        box_weight: factor of the box terms.
        objectness_weight: factor of the objectness term.
        classification_weight: factor of the class term.
    """

    ignore_thresh: Share = 0.5
    exact_centres: bool = True
    box: BoxForm = "yolov3"
    objectness: ObjectnessTarget = "one"
    classification: ClassificationForm = "bce"
    label_smoothing: Share = 0.0
    ignore_scope: IgnoreScope = "scale"
    match_iou: Share | None = None
    box_weight: NotNegative = 1.0
    objectness_weight: NotNegative = 1.0
    classification_weight: NotNegative = 1.0


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning rate.

    Attributes:
        kind: `adam` (without decay), `adamw` (with it), `sgd` (Nesterov), `lion`,
            `muon` (kernels by orthogonal updates, the rest by Adam), or for large batches `lamb` or
            `lars` (Adam and SGD whose rate goes with the norm of each weight).
        learning_rate: the greatest, behind the warm-up.
        scale_rate_from: rows of the batch that the rate is meant for; it grows in proportion with
            larger ones (the linear scaling rule, which goes with a warm-up). None: it stays.
        momentum: share that SGD and Muon keep of it a step, and the others of their first moment.
        weight_decay: coefficient, on kernels alone.
        clip_norm: largest global norm of the gradient, or None.
        schedule: `constant`, `cosine`, `step`: lower from two epochs on, as darknet's, or
            `plateau`: constant until the validation loss stands still.
        horizon: number of the epoch that the cosine ends with, and that `step_at` is of; None: the
            first run's `epochs`. Past it the final rate holds.
        warmup_steps: steps in which the rate grows linearly from 0.
        final_fraction: the cosine's last rate / its peak.
        step_at: shares of the horizon behind which the rate is multiplied by `step_factor`.
        step_factor: what the schedule `step` multiplies the rate by.
        plateau_factor: what a plateau multiplies the rate by.
        plateau_patience: epochs whose validation loss is not the least by 1e-4 that make a plateau,
            as in Keras's ReduceLROnPlateau.
        ema_decay: share that averaged weights keep of themselves a step; None: there are none.
    """

    kind: OptimizerKind = "adam"
    learning_rate: Positive = 1e-3
    scale_rate_from: Count | None = None
    momentum: Decay = 0.9
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = None
    schedule: Literal["constant", "cosine", "step", "plateau"] = "cosine"
    horizon: Count | None = None
    warmup_steps: CountOrZero = 0
    final_fraction: Share = 0.0
    step_at: tuple[Share, ...] = (0.8, 0.9)
    step_factor: Factor = 0.1
    plateau_factor: Factor = 0.1
    plateau_patience: Count = 3
    ema_decay: Decay | None = None


@dataclass(frozen=True)
class FreezeBodyConfig:
    """A first stage in which only the heads learn, as keras-yolo3's train.py does.

    The second stage starts with fresh optimizer slots and its own schedule; the EMA goes on.

    Attributes:
        epochs: of the first stage; 0: there is none.
        learning_rate: of the first stage, constant.
        paths: patterns of the paths of the parameters that stay.
    """

    epochs: CountOrZero = 0
    learning_rate: Positive = 1e-3
    paths: tuple[str, ...] = ("*/body/*",)


@dataclass(frozen=True)
class TrainConfig:
    """How a step is taken; its numbers stay the same, but for batch normalisation in parts.

    Attributes:
        accumulate: parts that a batch is taken in, one after the other, with the memory of one;
            batch normalisation sees each part by itself. A part is filled up where it has to be.
        remat: keep the input of each stage of the body alone for its gradients, and run the stage
            again for them: less memory, a third more arithmetic. On CPU no saving was seen.
        batch_norm: `local` normalises by a device's own rows, `sync` by those of all devices,
            `frozen` by the statistics that the network starts with, which stay as they are, scale
            and shift too.
        on_nonfinite: what is done when a loss, a gradient or an update was not finite. That update
            is refused in any case, and noted in the run folder's refused.json, of which
            `yolo-jax train --replay RUN` takes it again. `stop` ends the run; `skip` goes on
            without it, and ends after an epoch in which all were refused; `continue` does not end.
    """

    accumulate: Count = 1
    remat: bool = False
    batch_norm: Literal["local", "sync", "frozen"] = "local"
    on_nonfinite: OnNonfinite = "stop"


@dataclass(frozen=True)
class ParallelConfig:
    """How devices share a batch; the numbers stay the same, up to rounding.

    Attributes:
        strategy: `pmap` maps the step over the devices, `jit` has a mesh of them, and `fsdp` keeps
            parameters and optimizer slots in shards on that mesh.
    """

    strategy: Strategy = "pmap"
