"""Run folders of numbers that were made up: whole ones, without a training."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from yolo_jax.config import DataConfig, ExperimentConfig
from yolo_jax.config.flat import with_changes
from yolo_jax.run_folder import flatten

CONFIG = ExperimentConfig(
    "base", DataConfig(Path("a.json"), Path("b.json"), Path("c.json")), epochs=3, batch_size=8
)
CLASSES = ("ash", "oak")


def write_json(path: Path, content: object) -> None:
    """Writes JSON, NaN too."""
    path.write_text(json.dumps(content))


def made_run(
    path: Path,
    changes: dict[str, Any] | None = None,
    *,
    rows: int = 3,
    loss: float = 0.5,
    validation_ap: float | None = None,
    ap50: float = 0.4,
) -> Path:
    """Writes the folder of a run and returns it.

    Args:
        path: of the folder.
        changes: of its config's fields, by dotted name.
        rows: epochs of its history.
        loss: of the last epoch's validation.
        validation_ap: val_AP50 of the last epoch, if any.
        ap50: of the held-out images.
    """
    config = with_changes(CONFIG, {"name": path.name, "runs": path.parent} | (changes or {}))
    (path / "examples").mkdir(parents=True)
    write_json(path / "config.json", flatten(config))
    write_json(path / "classes.json", CLASSES)
    ap = "NA" if validation_ap is None else validation_ap
    lines = [f"{i},{2 / (i + 1)},{loss + 0.1 * (rows - 1 - i)},{ap}" for i in range(rows)]
    (path / "history.csv").write_text("\n".join(["epoch,loss,val_loss,val_AP50", *lines]) + "\n")
    speed = [f"{i},2.5,{10 + i},0.01" for i in range(rows)]
    head = "epoch,seconds,images_per_second,input_wait"
    (path / "speed.csv").write_text("\n".join([head, *speed]) + "\n")
    write_json(path / "warnings.json", [{"kind": "warning", "text": "of old age", "count": 2}])
    write_json(path / "metrics.json", figures(ap50) | {"epochs": config.epochs})
    write_json(path / "held_out.json", details())
    for name in ("worst_1", "best_1"):
        Image.new("RGB", (40, 30), (0, 90, 0)).save(path / "examples" / f"{name}.jpg")
    return path


def figures(ap50: float) -> dict[str, Any]:
    """Returns what metrics.json holds."""
    each = {name: {"AP": ap50 / 3, "AP50": ap50} for name in CLASSES}
    whole = {"AP": ap50 / 3, "AP50": ap50, "AP75": None, "per_class": each}
    return whole | {
        "sources": {"here": whole},
        "stopped_early": False,
        "skipped": {"x.png": "gone"},
    }


def details() -> dict[str, Any]:
    """Returns what held_out.json holds."""
    curve = [1.0] * 26 + [0.0] * 25
    example = {"name": "a.png", "source": "here", "f1": 0.5, "true": 3, "found": 2, "right": 1}
    return {
        "threshold": 0.3,
        "iou": 0.5,
        "recall_step": 0.02,
        "precision": {
            "all": curve,
            "sources": {"here": curve},
            "classes": dict.fromkeys(CLASSES, curve),
        },
        "confusion": [[5, 1, 2], [0, 4, 1], [3, 0, 0]],
        "worst": [example | {"picture": "examples/worst_1.jpg"}],
        "best": [example | {"picture": "examples/best_1.jpg"}],
    }
