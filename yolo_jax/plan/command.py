"""`yolo-jax plan CONFIG --target v5e:16x16`: the config's own step, compiled for a slice of TPUs.

XLA's compiler says exactly what a chip holds, multiplies and moves. The times are bounds: that of
the step by arithmetic and memory (a roofline), that of the all-reduce by the bandwidth of links.
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from jax.experimental import topologies

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.fields import check_fields
from yolo_jax.experiment import build_model, compile_stage, open_data, plan_stages
from yolo_jax.model.feed import as_fed
from yolo_jax.networks.yolov3 import create_network
from yolo_jax.plan import hlo
from yolo_jax.plan.chips import Slice, slice_of
from yolo_jax.plan.compiler import bytes_held
from yolo_jax.training.parallel import Parallel

PyTree = Any


def plan(
    config: ExperimentConfig, target: str, json_file: Path | None = None, plot: Path | None = None
) -> dict[str, Any]:
    """Prints what a config's training takes on a slice of TPUs, and returns the figures.

    Args:
        config: whose data are read, for the shapes of a batch and the steps of an epoch.
        target: such as v5e:16x16.
        json_file: for the figures.
        plot: picture of images a second by number of chips.

    Raises:
        ValueError: there is no such target, or the batch does not divide among its chips.
    """
    check_fields(config)
    place = slice_of(target)
    rows = config.rows(place.chips)
    if rows % place.chips:
        raise ValueError(
            f"a batch of {rows} rows does not divide among the {place.chips} chips of {target}; "
            f"give --batch-size a multiple of {place.chips}, or --batch-size-per-device in its "
            "place (with --batch-size None)"
        )
    start = time.perf_counter()
    lowered, held, steps = lower(config, place, rows)
    lowered_after = time.perf_counter()
    executable = lowered.compile()
    figures = figures_of(executable, place, rows, held)
    figures["epochs"], figures["steps an epoch"] = config.epochs, steps
    hours = figures["step ms, all-reduce after the rest"] / 3.6e6 * steps * config.epochs
    figures["hours for all epochs"] = round(hours, 3)
    figures["chip-hours for all epochs"] = round(hours * place.chips, 2)
    figures["seconds to lower, to compile"] = [
        round(lowered_after - start, 1), round(time.perf_counter() - lowered_after, 1)
    ]  # fmt: skip
    print_figures(config, place, rows, figures)
    if json_file is not None:
        record = {"target": target, "rows": rows, "strategy": config.parallel.strategy}
        json_file.write_text(json.dumps(record | {"figures": figures}, indent=2) + "\n")
    if plot is not None:
        draw_scaling(place, rows // place.chips, figures, plot)
    return figures


def lower(
    config: ExperimentConfig, place: Slice, rows: int
) -> tuple[jax.stages.Lowered, dict[str, int], int]:
    """Returns the config's step lowered for a slice, bytes of its state on a chip, and the steps.

    Args:
        config: of the experiment.
        place: the slice.
        rows: of a batch.
    """
    data = open_data(config)
    steps = config.steps_per_epoch or max(1, len(data.train.dataset.annotations) // rows)
    stage = list(plan_stages(config, steps))[-1]
    kind, num_classes = config.network.kind, len(data.train.dataset.class_names)
    network = create_network(kind, num_classes, backend="tpu", remat=config.train.remat)
    model, loss = build_model(config, network, num_classes)
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
    options = {"chip_config_name": place.chip.config} if place.chip.config else {}
    slice_ = topologies.get_topology_desc(place.name, "tpu", **options)
    # pmap's program is that of jit over a mesh; JAX lowers it for this process's devices alone.
    strategy = "fsdp" if config.parallel.strategy == "fsdp" else "jit"
    parallel = Parallel(tuple(slice_.devices), strategy)

    def bytes_of(tree: PyTree) -> int:
        axes = jax.tree.leaves(parallel.sharded_axes(tree))
        parts = (place.chips if axis >= 0 else 1 for axis in axes)
        return sum(a.nbytes // n for a, n in zip(jax.tree.leaves(tree), parts, strict=True))

    held = {
        "weights": bytes_of(state.params),
        "optimizer slots": bytes_of(state.opt_state),
        "average of weights": bytes_of(state.ema),
        "moving statistics": bytes_of(state.batch_stats),
        "batch": sum(a.nbytes for a in jax.tree.leaves(of(rows // place.chips))),
    }
    return compiled.lower(state, sums, of(rows), slice_.devices, strategy), held, steps


def figures_of(
    executable: jax.stages.Compiled, place: Slice, rows: int, held: dict[str, int]
) -> dict[str, Any]:
    """Returns what a chip holds, multiplies and moves, and the bounds that follow from it.

    Args:
        executable: the step.
        place: the slice.
        rows: of a batch.
        held: bytes of the state on a chip, by what they are.
    """
    cost, memory = executable.cost_analysis(), executable.memory_analysis()
    if not cost or memory is None:
        raise RuntimeError("XLA gives no analysis of this program; take the jaxlib that is pinned")
    text, chip = executable.as_text() or "", place.chip
    total = bytes_held(memory) + memory.generated_code_size_in_bytes
    parts = held | {"activations, gradients, scratch": memory.temp_size_in_bytes}
    parts["padding, program and the rest"] = total - sum(parts.values())
    hbm = 1e9 * sum(one.gigabytes for one in hlo.instructions(text))
    by_flops, by_hbm = cost["flops"] / chip.flops, hbm / chip.hbm_bytes
    reduced = hlo.all_reduces(text)
    step, links = max(by_flops, by_hbm), place.all_reduce_seconds(sum(reduced))
    images = rows / (step + links)
    return {
        "GiB of HBM a chip": round(total / 2**30, 3),
        "GiB that it has": chip.hbm_gib,
        "fits": total < chip.hbm_gib * 2**30,
        "GiB by what it is": {name: round(size / 2**30, 4) for name, size in parts.items()},
        "TFLOP a chip": round(cost["flops"] / 1e12, 3),
        "GB through HBM a chip": round(hbm / 1e9, 3),
        "ms by FLOPs": round(1e3 * by_flops, 3),
        "ms by bytes of HBM": round(1e3 * by_hbm, 3),
        "all-reduces": len(reduced),
        "all-reduced MB": round(sum(reduced) / 1e6, 3),
        "ms of all-reduce": round(1e3 * links, 3),
        "step ms, all-reduce after the rest": round(1e3 * (step + links), 3),
        "images/s": round(images, 1),
        "images/s a chip": round(images / place.chips, 1),
        "model FLOPs utilisation, %": round(100 * by_flops / (step + links), 1),
        "images/s that a host has to decode": round(images / place.hosts, 1),
    }


def print_figures(
    config: ExperimentConfig, place: Slice, rows: int, figures: dict[str, Any]
) -> None:
    """Prints a table."""
    print(
        f"{config.name}: {config.network.kind} at {config.network.input_size}², {rows} images a "
        f"batch on {place.name} ({place.chips} chips, {place.hosts} hosts), "
        f"{config.parallel.strategy}; bounds, not measurements"
    )
    for name, value in figures.items():
        if isinstance(value, dict):
            for part, size in value.items():
                print(f"    {part:36s}{size:10.4f}")
        elif isinstance(value, list):
            print(f"  {name:38s}{', '.join(map(str, value)):>10}")
        else:
            print(f"  {name:38s}{value!s:>10}")
    if not figures["fits"]:
        print(
            "It does not fit: give fewer rows a device, more --train.accumulate, --train.remat, or "
            "--parallel.strategy fsdp"
        )


def draw_scaling(place: Slice, rows: int, figures: dict[str, Any], path: Path) -> None:
    """Draws images a second by the number of chips, each with as many rows as here.

    Args:
        place: the slice.
        rows: of a chip.
        figures: of it.
        path: of the picture.
    """
    counts = [2**power for power in range(place.chips.bit_length()) if 2**power <= place.chips]
    alone = max(figures["ms by FLOPs"], figures["ms by bytes of HBM"]) / 1e3
    size = figures["all-reduced MB"] * 1e6
    bound = [n * rows / (alone + place.all_reduce_seconds(size, n)) for n in counts]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(counts, [n * rows / alone for n in counts], "--", color="grey", label="without links")
    axes.plot(counts, bound, "o-", label="with the all-reduce after the rest")
    axes.set(xscale="log", yscale="log", xlabel=f"chips of {place.name}", ylabel="images/s (bound)")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_yticks(bound, [f"{speed:,.0f}" for speed in bound])
    axes.minorticks_off()
    axes.set_title(f"{rows} images a chip")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)
