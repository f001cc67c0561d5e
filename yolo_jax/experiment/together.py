"""Trials that differ in numbers alone, trained in one program; each has its own run folder."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.fields import check_fields
from yolo_jax.experiment.anchors import anchors_of
from yolo_jax.experiment.data import Data, open_data
from yolo_jax.experiment.figures import leave_figures, make_detector, trained_network
from yolo_jax.experiment.groups import check_group, group_folder, note_group
from yolo_jax.experiment.network import build_model, detection_loss, pretrained_network
from yolo_jax.experiment.stages import Stage, fit_stage, plan_stages
from yolo_jax.experiment.trackers import make_trackers
from yolo_jax.experiment.trial_numbers import differing, group_trials, numbers_of, with_numbers
from yolo_jax.model.callbacks import CSVLogger, EachTrial, TensorBoard, Tracker
from yolo_jax.model.model import Model
from yolo_jax.model.trials import Recipe, Trials, TrialsModel
from yolo_jax.networks.yolov3 import Network
from yolo_jax.provenance import note_start
from yolo_jax.report.warned import WARNINGS, Warned, collected_warnings
from yolo_jax.run_folder import Failure, RunFolder, is_complete
from yolo_jax.training.distributed import EXIT_DIVERGED
from yolo_jax.training.state import TrainState, create_state

_log = logging.getLogger(__name__)

Trackers = Mapping[str, Sequence[TensorBoard | Tracker]]  # by the trial's name


def train_together(configs: Sequence[ExperimentConfig], *, source: Path | None = None) -> None:
    """Trains trials, or goes on where their newest common checkpoint stands.

    A trial's numbers are those of a run alone on one device, over the same batches. One that
    diverges is trained no further, and recorded as `NAME.failure.json` beside its run folder.

    Args:
        configs: of the trials, in one folder of runs.
        source: file that they were read from, of which the run folders note the commit.

    Raises:
        ValueError: the trials differ in more than numbers, or one was begun without the others; or
            what `train` refuses.
        FloatingPointError: all of them diverged.
    """
    with collected_warnings() as warned:
        _train_together(configs, source, warned)


def _train_together(
    configs: Sequence[ExperimentConfig], source: Path | None, warned: Warned
) -> None:
    for config in configs:
        check_fields(config)
    for idle in dict.fromkeys(idle for config in configs for idle in config.idle_settings()):
        _log.warning("%s", idle)
    runs = [RunFolder(config.runs / config.name) for config in configs]
    configs = [run.resolve(config, 1) for run, config in zip(runs, configs, strict=True)]
    _check_together(configs)  # as they are: a run that was begun keeps its rows and its horizon
    first = configs[0]
    left = [i for i, run in enumerate(runs) if not is_complete(run.figures(), first.epochs)]
    if not left:
        print(f"all {len(runs)} trials in {first.runs} are complete after {first.epochs} epochs.")
        return
    check_group(configs)
    # They last over all stages, as one run of theirs, and take the held-out figures too.
    trackers = {config.name: list(make_trackers(config)) for config in configs}
    data = open_data(first)
    class_names = data.train.dataset.class_names
    network = pretrained_network(first, len(class_names))
    anchors = anchors_of(runs[0], first, data.train.dataset, begun=runs[0].is_begun)
    datasets = [loader.dataset for loader in data]
    with ExitStack() as held:
        for run in runs:
            held.enter_context(run.in_use())
        note_group(configs)  # before a run is there that would seem to have been begun apart
        for run, config in zip(runs, configs, strict=True):
            goes_on = run.is_begun
            run.begin(config, class_names, anchors)
            warned.keep_in(run.path / WARNINGS)
            note_start(run, config, network, datasets, goes_on=goes_on, source=source)
        single, _ = build_model(first, network, len(class_names), anchors)
        model = TrialsModel(single, list(_starts(configs, network, single)))
        try:
            _fit(configs, model, data, anchors, trackers)
        except FloatingPointError:  # of all, which do not have to have it from one step
            _note_failures(runs, left, model)
            raise
        _note_failures(runs, left, model)
        _score_each(configs, runs, left, model, single, data, anchors, trackers)


def _check_together(configs: Sequence[ExperimentConfig]) -> None:
    if jax.process_count() > 1:
        raise ValueError("trials are trained together by one process; found several")
    names = [config.name for config in configs]
    if len(set(names)) < len(names):
        raise ValueError(f"trials have a name each; found {', '.join(names)}")
    if len(group_trials(configs)) > 1:
        raise ValueError(
            f"{', '.join(names)} differ in "
            f"{', '.join(differing(configs))}, which one program cannot have both ways; train them "
            "apart"
        )
    if len({config.runs for config in configs}) > 1:
        raise ValueError("trials that are trained together have one folder of runs; found several")


def _starts(
    configs: Sequence[ExperimentConfig], network: Network, model: Model
) -> Iterator[TrainState]:
    """Yields the trials' states before the first step; those of one seed start alike."""
    drawn: dict[int, tuple[Any, Any]] = {}
    for config in configs:
        if config.seed not in drawn:
            other = pretrained_network(config, network.num_classes) if drawn else network
            nnx.update(network, nnx.state(other))
            model.read_layers()
            weights = (model.state.params, model.state.batch_stats)
            drawn[config.seed] = jax.device_get(weights)
        yield create_state(*drawn[config.seed], seed=config.seed)


def _fit(
    configs: Sequence[ExperimentConfig],
    model: TrialsModel,
    data: Data,
    anchors: AnchorSet,
    trackers: Trackers,
) -> None:
    """Trains stage after stage; each goes on from its own newest checkpoint."""
    first, names = configs[0], tuple(config.name for config in configs)
    steps, folder = first.steps_per_epoch or len(data.train), group_folder(configs)
    classes = len(data.train.dataset.class_names)
    for number, stage in enumerate(plan_stages(first, steps)):
        recipe = partial(_recipe, first, steps, number, classes, anchors)
        model.compile_trials(
            Trials(names, numbers_of(configs), recipe),
            frozen=stage.frozen,
            accumulate=first.train.accumulate,
        )
        each = {
            config.name: [
                CSVLogger(RunFolder(config.runs / config.name).history_file),
                *trackers[config.name],
            ]
            for config in configs
        }
        fit_stage(first, stage, steps, model, data, [EachTrial(each)], folder)


def _recipe(
    config: ExperimentConfig,
    steps: int,
    number: int,
    classes: int,
    anchors: AnchorSet,
    numbers: Mapping[str, Any],
) -> Recipe:
    """Returns what a stage of the config is with a trial's numbers."""
    own, side = with_numbers(config, numbers), config.network.input_size
    stage: Stage = list(plan_stages(own, steps))[number]
    augment: Any = partial(own.augment, output_shape=(side, side))
    loss = detection_loss(own, classes, anchors)
    return Recipe(stage.optimizer, loss, augment, own.optimizer.ema_decay)


def _note_failures(runs: Sequence[RunFolder], left: Sequence[int], model: TrialsModel) -> None:
    """Notes which trials diverged, and at which step."""
    for place in left:
        if (failed := model.failure_of(place)) is not None:
            step, term = failed
            said = f"the {term} of step {step} (counted from 0) was not finite"
            runs[place].save_failure(Failure("diverged", said, EXIT_DIVERGED))


def _score_each(
    configs: Sequence[ExperimentConfig],
    runs: Sequence[RunFolder],
    left: Sequence[int],
    model: TrialsModel,
    single: Model,
    data: Data,
    anchors: AnchorSet,
    trackers: Trackers,
) -> None:
    """Leaves weights and figures of the trials that have none yet and did not diverge."""
    detector = None
    for place in left:
        if model.failure_of(place) is not None:
            continue
        config = configs[place]
        single.state = model.trial(place)
        trained = trained_network(single)
        if detector is None:
            detector = make_detector(config, trained, anchors, data)
        else:
            detector.take_weights(trained)
        print(f"{config.name}:")
        leave_figures(
            config, runs[place], trained, detector, data, config.epochs, trackers[config.name]
        )
