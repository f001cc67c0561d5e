"""The real training step of YOLOv3, compiled for TPUs that this machine need not have.

XLA's TPU compiler says exactly what its program holds, multiplies and moves, so the figures repeat
to the byte; the time is a roofline, not a measurement. Of bytes there are two counts: XLA's own
("accessed") adds what is staged in the chip's memory and read from there; the other is of HBM
alone, by which the roofline is meant. It runs in a process of its own, on the CPU: libtpu takes
hold of the process that loads it.

Command: yolo-jax bench tpu
Needs: pip install -e '.[plan]'
Hardware: any; about 5 minutes and 6 GB of memory for YOLOv3.
"""

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies

from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.model.graph import Input, apply
from yolo_jax.model.losses import detection
from yolo_jax.model.model import Model
from yolo_jax.networks.yolov3 import NETWORKS, create_network
from yolo_jax.plan import hlo
from yolo_jax.plan.chips import slice_of
from yolo_jax.plan.compiler import bytes_held, in_own_process
from yolo_jax.training.step import Fed

# A board of eight v5e chips.
TOPOLOGY, CHIPS = "v5e:2x4", 8
CHIP = slice_of(TOPOLOGY).chip
CLASSES, BOXES = 80, 50


def main() -> None:
    """Prints what the step holds, multiplies and moves on a chip, and where its bytes go."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench tpu", description=__doc__)
    parser.add_argument("--network", choices=list(NETWORKS), default="yolov3")
    parser.add_argument("--size", type=int, default=416, help="of the input, px")
    parser.add_argument("--batch", type=int, default=64, help="images a chip")
    parser.add_argument("--chips", type=int, choices=range(1, CHIPS + 1), default=CHIPS)
    parser.add_argument("--largest", type=int, default=20, help="instructions to list, by bytes")
    parser.add_argument("--hlo", type=Path, help="file for the optimised program's text")
    parser.add_argument("--json", type=Path, help="file for the figures and the versions")
    options = parser.parse_args()
    try:
        status = in_own_process("experiments.benchmarks.tpu", sys.argv[1:])
    except ValueError as error:
        sys.exit(f"yolo-jax bench tpu: {error}")
    if status is not None:
        sys.exit(status)
    start = time.perf_counter()
    lowered = lower_step(options.network, options.size, options.batch, options.chips)
    lowered_after = time.perf_counter() - start
    executable = lowered.compile()
    text = executable.as_text() or ""
    found = hlo.instructions(text)
    figures = measure(executable, found, options.batch)
    reductions = hlo.between_chips(text, options.chips)["all-reduce"]
    figures["all-reduces"] = len(reductions)
    figures["all-reduced MB"] = round(sum(reductions) / 1e6, 3)
    figures["compile seconds"] = round(time.perf_counter() - start - lowered_after, 1)
    print(
        f"{options.network} at {options.size}², bfloat16, {options.batch} images a chip, "
        f"{options.chips} of {TOPOLOGY}"
    )
    for name, value in figures.items():
        print(f"  {name:38s}{value:10.5g}")
    places = report_places(found, options.largest)
    if options.hlo:
        options.hlo.write_text(text)
    if options.json:
        record = {"machine": describe_machine(), "setting": _setting(options)}
        record |= {"figures": figures, "gigabytes by category": places}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


def lower_step(network: str, size: int, batch: int, chips: int) -> jax.stages.Lowered:
    """Lowers the step that `fit` takes: uint8 images, padded boxes, SGD with momentum.

    Args:
        network: a key of `NETWORKS`.
        size: of the input, px.
        batch: images a chip.
        chips: of the topology.
    """
    devices = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY).devices
    module = create_network(network, CLASSES, backend="tpu")
    image = Input((size, size, 3), name="image", dtype=jnp.uint8)
    model = Model(image, list(apply(module, image)))
    loss = detection(DetectionLoss(NETWORKS[network][1], CLASSES))
    model.compile(optax.sgd(1e-3, momentum=0.9), loss, devices=jax.devices()[:1])
    compiled = model.require_compiled()

    def zeros(shape: tuple[int, ...], dtype: type) -> np.ndarray:
        return np.broadcast_to(dtype(0), (batch * chips, *shape))  # takes no memory

    boxes, classes = zeros((BOXES, 4), np.float32), zeros((BOXES,), np.int32)
    fed = Fed(
        {"image": zeros((size, size, 3), np.uint8)},
        {"boxes": boxes, "classes": classes},
        None,
        None,
    )
    state = compiled.start(model.state)
    sums = compiled.zero_sums(state, fed, training=True)
    return compiled.lower(state, sums, fed, devices[:chips])


def measure(
    executable: jax.stages.Compiled, found: list[hlo.Instruction], batch: int
) -> dict[str, float]:
    """Returns the figures of one chip, by name.

    Args:
        executable: the step's.
        found: its instructions.
        batch: images a chip.
    """
    cost = executable.cost_analysis()
    memory = executable.memory_analysis()
    if not cost or memory is None:
        raise RuntimeError("XLA gives no analysis of this program; take the jaxlib that is pinned")
    by_flops = cost["flops"] / CHIP.flops
    by_accesses = cost["bytes accessed"] / CHIP.hbm_bytes
    hbm = sum(one.gigabytes for one in found)
    by_hbm = 1e9 * hbm / CHIP.hbm_bytes
    return {
        f"memory, GiB (of {CHIP.hbm_gib})": round(bytes_held(memory) / 2**30, 2),
        "TFLOP": round(cost["flops"] / 1e12, 3),
        "GB accessed": round(cost["bytes accessed"] / 1e9, 2),
        "GB of HBM": round(hbm, 2),
        "ms by FLOPs": round(1e3 * by_flops, 1),
        "ms by bytes accessed": round(1e3 * by_accesses, 1),
        "ms by bytes of HBM": round(1e3 * by_hbm, 1),
        "images/s a chip by bytes accessed": round(batch / max(by_flops, by_accesses), 1),
        "images/s a chip at the roofline": round(batch / max(by_flops, by_hbm), 1),
    }


def report_places(found: list[hlo.Instruction], largest: int) -> dict[str, float]:
    """Prints where the bytes go; returns the gigabytes of each category.

    Args:
        found: instructions, the most bytes first.
        largest: instructions to name.
    """
    places = {name: round(size, 2) for name, size in hlo.by_category(found).items()}
    padding = sum(one.gigabytes - one.unpadded for one in found)
    total = sum(one.gigabytes for one in found)
    print(f"GB of HBM: {total:.1f}, of which padding of tiles {padding:.1f}")
    for name, size in places.items():
        print(f"  {name:38s}{size:8.2f}")
    print("largest:")
    for one in found[:largest]:
        print(f"  {one.gigabytes:6.3f} {one.category:28s}{one.shape}")
    return places


def describe_machine() -> dict[str, str | int | None]:
    """Returns what compiled: the figures depend on the versions alone, the seconds on the rest."""
    versions = {name: version(name) for name in ("jax", "jaxlib", "libtpu", "flax", "optax")}
    return {**versions, "python": platform.python_version(), "cpus": os.cpu_count()}


def _setting(options: argparse.Namespace) -> dict[str, str | int]:
    names = ("network", "size", "batch", "chips")
    return {"topology": TOPOLOGY} | {name: getattr(options, name) for name in names}


if __name__ == "__main__":
    main()
