"""What spreading a step costs: over eight devices of one process, and over two processes.

Eight devices of one CPU do the same work on the same cores, so what they take more is overhead: of
the collectives, of eight optimizers, of smaller shapes, and of eight programs at once. They are
simulated as `--launch local` does. Two processes of a device each stand beside one process that has
both.

Command: yolo-jax bench scaling
Hardware: 2 CPU cores, about 20 minutes.
"""

import argparse
from pathlib import Path

from experiments.benchmarks.sides.turns import Side, measure, save
from yolo_jax.launch.local import simulated

DEVICES = 8


def main() -> None:
    """Prints a table of the strategies."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench scaling", description=__doc__)
    parser.add_argument("--network", default="tiny", choices=["tiny", "yolov3"])
    parser.add_argument("--batch", type=int, default=64, help="rows, over all devices")
    parser.add_argument("--side", type=int, default=416)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write machine, medians and ratios")
    options = parser.parse_args()
    work = ["train", "--network", options.network, "--batch", options.batch]
    work += ["--side", options.side]
    spread = [*work, "--devices", DEVICES, "--strategy"]
    # Each as its own case: eight at once would be four times the memory.
    cases = []
    for strategy in ("pmap", "jit", "fsdp"):
        sides = {
            f"{strategy}, {DEVICES} devices": Side(
                "yolo_jax", [*spread, strategy], peer=False, environment=simulated(DEVICES)
            ),
            "1 device": Side("yolo_jax", work, peer=False),
        }
        name = f"{options.network}_b{options.batch}_{strategy}"
        cases.append(measure(name, sides, options.turns))
    two = [*work, "--devices", 2]
    alone, apart = simulated(2), simulated(1, processes=2)
    sides = {
        "2 processes": Side("yolo_jax", [*two, "--processes", 2], peer=False, environment=apart),
        "1 process, 2 devices": Side("yolo_jax", two, peer=False, environment=alone),
    }
    name = f"{options.network}_b{options.batch}_processes"
    cases.append(measure(name, sides, options.turns))
    save(options.json, cases)


if __name__ == "__main__":
    main()
