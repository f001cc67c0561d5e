"""A config's own step, compiled for a slice, and what XLA says of it."""

import dataclasses
import re
import time
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies

from yolo_jax.config import ExperimentConfig
from yolo_jax.experiment import build_model, compile_stage, open_data, plan_stages
from yolo_jax.model.feed import as_fed
from yolo_jax.networks.yolov3 import NETWORKS, create_network
from yolo_jax.plan import hlo
from yolo_jax.plan.chips import Place
from yolo_jax.plan.compiler import bytes_held
from yolo_jax.training.parallel import Parallel

PyTree = Any
# XLA's words for a program that is too large, with what it takes and what there is.
_TOO_LARGE = re.compile(r"RESOURCE_EXHAUSTED.*?([\d.]+[GTP])\b.*?([\d.]+[GTP])\b", re.DOTALL)


class DoesNotFit(ValueError):
    """The step takes more memory than a chip has."""


def step_figures(config: ExperimentConfig, place: Place, rows: int) -> dict[str, Any]:
    """Returns the figures of a config's step: of memory, arithmetic, links, and time by them.

    Args:
        config: of the experiment.
        place: that it is for.
        rows: of a batch.

    Raises:
        DoesNotFit: names what it takes and what there is.
    """
    start = time.perf_counter()
    lowered, held, steps = lower(config, place, rows)
    lowered_after = time.perf_counter()
    try:
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        sizes = _TOO_LARGE.search(str(error))
        if sizes is None:
            raise
        raise DoesNotFit(
            f"{rows // place.chips} rows a chip do not fit: they take {sizes[1]}iB beside what "
            f"the step is given, of {sizes[2]}iB. Give fewer rows a device, more "
            "--train.accumulate, --train.remat, --parallel.strategy fsdp; or ask --fit"
        ) from error
    turns = config.train.accumulate
    figures = figures_of(executable, place, rows, held, turns)
    if config.train.remat:  # what is computed twice is no model's
        figures["FLOPs utilisation, %"] = figures.pop("model FLOPs utilisation, %")
    figures["epochs"], figures["steps an epoch"] = config.epochs, steps
    hours = figures["step ms, links after the rest"] / 3.6e6 * steps * config.epochs
    figures["hours for all epochs"] = round(hours, 3)
    figures["chip-hours for all epochs"] = round(hours * place.chips, 2)
    figures["seconds to lower, to compile"] = [
        round(lowered_after - start, 1), round(time.perf_counter() - lowered_after, 1)
    ]  # fmt: skip
    return figures


def lower(
    config: ExperimentConfig, place: Place, rows: int
) -> tuple[jax.stages.Lowered, dict[str, int], int]:
    """Returns the config's step lowered for a slice, bytes of its state on a chip, and the steps.

    Args:
        config: of the experiment.
        place: the slice.
        rows: of a batch.

    Raises:
        ValueError: XLA's program is for another number of shards.
    """
    compiled_for = place.compiled_for
    if config.parallel.strategy == "fsdp" and compiled_for.chips != place.chips:
        raise ValueError(
            f"of {place.name} fsdp's shards cannot be told: of GPUs they are for 4, 8, 16, 32, 64, "
            "128 or 256; plan for as many, or for --parallel.strategy pmap"
        )
    # Any few rows tell the shape of one: a slice's batch would fill this machine's memory.
    data = open_data(dataclasses.replace(config, batch_size=1, batch_size_per_device=None))
    steps = config.steps_per_epoch or max(1, len(data.train.dataset.annotations) // rows)
    stage = list(plan_stages(config, steps))[-1]
    kind, num_classes = config.network.kind, len(data.train.dataset.class_names)
    network = create_network(
        kind,
        num_classes,
        backend="tpu",
        remat=config.train.remat,
        frozen_batch_norm=config.train.batch_norm == "frozen",
    )
    model, loss = build_model(config, network, num_classes, NETWORKS[kind][1])
    compile_stage(config, stage, model, loss, devices=jax.devices()[:1])
    one = as_fed(next(data.train.batches()))

    def of(count: int) -> Any:
        # One row stands for all, and takes no memory.
        return jax.tree.map(
            lambda a: np.broadcast_to(np.asarray(a)[:1], (count, *np.shape(a)[1:])), one
        )

    compiled = model.require_compiled()
    state = compiled.start(model.state)
    sums = compiled.zero_sums(state, of(rows // place.chips), training=True)
    options = {"chip_config_name": compiled_for.chip.config} if compiled_for.chip.config else {}
    slice_ = topologies.get_topology_desc(compiled_for.name, "tpu", **options)
    # pmap's program is that of jit over a mesh; JAX lowers it for this process's devices alone.
    strategy = "fsdp" if config.parallel.strategy == "fsdp" else "jit"
    parallel = Parallel(tuple(slice_.devices), strategy)

    def bytes_of(tree: PyTree) -> int:
        axes = jax.tree.leaves(parallel.sharded_axes(tree))
        parts = (compiled_for.chips if axis >= 0 else 1 for axis in axes)
        return sum(a.nbytes // n for a, n in zip(jax.tree.leaves(tree), parts, strict=True))

    held = {
        "weights": bytes_of(state.params),
        "optimizer slots": bytes_of(state.opt_state),
        "average of weights": bytes_of(state.ema),
        "moving statistics": bytes_of(state.batch_stats),
        "batch": sum(a.nbytes for a in jax.tree.leaves(of(rows // place.chips))),
    }
    batch = of(rows // place.chips * compiled_for.chips)
    return compiled.lower(state, sums, batch, slice_.devices, strategy), held, steps


def figures_of(
    executable: jax.stages.Compiled, place: Place, rows: int, held: dict[str, int], turns: int
) -> dict[str, Any]:
    """Returns what a chip holds, multiplies and moves, and the bounds that follow from it.

    Args:
        executable: the step.
        place: the slice.
        rows: of a batch.
        held: bytes of the state on a chip, by what they are.
        turns: parts that a batch is taken in, by a loop of which XLA counts one turn.

    Raises:
        RuntimeError: this jaxlib gives no analysis of programs.
    """
    cost, memory = executable.cost_analysis(), executable.memory_analysis()
    if not cost or memory is None:
        raise RuntimeError("XLA gives no analysis of this program; take the jaxlib that is pinned")
    text, chip = executable.as_text() or "", place.chip
    total = bytes_held(memory) + memory.generated_code_size_in_bytes
    total = round(total * place.memory_factor)
    parts = held | {"activations, gradients, scratch": memory.temp_size_in_bytes}
    parts["padding, program and the rest"] = total - sum(parts.values())
    hbm = 1e9 * sum(one.gigabytes for one in hlo.instructions(text, turns))
    flops = cost["flops"] * turns  # the optimizer's few with them
    by_flops, by_hbm = flops / chip.flops, hbm / chip.hbm_bytes
    sent = hlo.between_chips(text, place.compiled_for.chips, turns)
    sizes = {kind: sum(arrays) for kind, arrays in sent.items()}
    # An all-reduce is a reduce-scatter and an all-gather.
    halves = (sizes["all-gather"] + sizes["reduce-scatter"]) / 2
    links = place.all_reduce_seconds(sizes["all-reduce"] + halves)
    step = max(by_flops, by_hbm)
    images = rows / (step + links)
    return {
        "GiB of HBM a chip": round(total / 2**30, 3),
        "GiB that it has": round(chip.hbm_gib, 2),
        "fits": total < chip.hbm_gib * 2**30,  # XLA refuses what does not fit a TPU
        "GiB by what it is": {name: round(size / 2**30, 4) for name, size in parts.items()},
        "TFLOP a chip": round(flops / 1e12, 3),
        "GB through HBM a chip": round(hbm / 1e9, 3),
        "ms by FLOPs": round(1e3 * by_flops, 3),
        "ms by bytes of HBM": round(1e3 * by_hbm, 3),
        "all-reduces": len(sent["all-reduce"]),
        "all-reduced MB": round(sizes["all-reduce"] / 1e6, 3),
        "all-gathered MB": round(sizes["all-gather"] / 1e6, 3),
        "reduce-scattered MB": round(sizes["reduce-scatter"] / 1e6, 3),
        "ms over the links": round(1e3 * links, 3),
        "step ms, links after the rest": round(1e3 * (step + links), 3),
        "images/s": round(images, 1),
        "images/s a chip": round(images / place.chips, 1),
        "model FLOPs utilisation, %": round(100 * by_flops / (step + links), 1),
        "images/s that a host has to decode": round(images / place.hosts, 1),
    }
