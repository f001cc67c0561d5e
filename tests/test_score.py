"""The order in which held-out figures are left: what a kill may lose is made anew."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from yolo_jax import score
from yolo_jax.config import DataConfig, ExperimentConfig
from yolo_jax.core.types import Annotation, Dataset, Detections
from yolo_jax.run_folder import RunFolder


def test_figures_are_there_only_with_what_lies_behind_them(tmp_path: Path, monkeypatch):
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    box, one = np.asarray([[5, 5, 25, 25]], np.float32), (np.zeros(1, int), np.zeros(1, bool))
    dataset = Dataset((Annotation(0, tmp_path / "a.png", 30, 30, box, *one),), ("tree",))
    found = {0: Detections(box, np.asarray([0.9]), np.zeros(1, int))}
    held_out: Any = SimpleNamespace(one_pass=list, skipped={}, dataset=dataset)
    detector: Any = SimpleNamespace(detect_batches=lambda _: found)
    config = ExperimentConfig("one", DataConfig(Path("a.json")), epochs=2)
    run = RunFolder(tmp_path / "one")
    run.path.mkdir()
    run.history_file.write_text("epoch,loss\n0,2\n1,1\n")

    def stopped(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(score, "save_details", stopped)
        score.score_held_out(config, detector, held_out, {}, run, 2)
    assert run.figures() is None  # so that the same command scores
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(score, "save_curves", stopped)
        score.score_held_out(config, detector, held_out, {}, run, 2)
    assert run.figures() is not None  # which pictures are not worth losing
    figures = score.score_held_out(config, detector, held_out, {}, run, 2)
    assert figures == run.figures()
    assert figures is not None and figures["AP50"] == pytest.approx(1)
