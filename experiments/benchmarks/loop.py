"""Steps a second of `fit` on a small MLP: beside Keras 3's on JAX, and a loop written by hand.

32 → 64 → 10 in batches of 32 over 20,000 rows in memory, shuffled, SGD, verbose=0. By hand is a
jit step over the same batches and nothing else. A turn is a fit of five epochs: one takes 20 ms,
and to wake up after the turn of another side 10 more.

Command: yolo-jax bench loop
Hardware: 2 CPU cores, 2 minutes.
"""

import argparse
from pathlib import Path

from experiments.benchmarks.sides.loop import BATCH, EPOCHS, ROWS
from experiments.benchmarks.sides.turns import Case, Side, measure, save


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench loop", description=__doc__)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write machine, medians and ratios")
    options = parser.parse_args()
    print(f"seconds of {EPOCHS} epochs of {-(-ROWS // BATCH)} steps")
    cases = {
        "mlp_fit_keras": ("Keras 3 on JAX", "keras"),
        "mlp_fit_by_hand": ("by hand", "by_hand"),
    }
    save(options.json, [run(name, *peer, options.turns) for name, peer in cases.items()])


def run(name: str, label: str, peer: str, turns: int) -> Case:
    """Measures our `fit`, choosing the steps of a call by itself, beside one peer."""
    sides = {
        "yolo_jax": Side("loop", ["ours"], peer=False),
        label: Side("loop", [peer], peer=peer == "keras"),
    }
    return measure(name, sides, turns)


if __name__ == "__main__":
    main()
