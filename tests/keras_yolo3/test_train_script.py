"""A keras-yolo3 user's train.py, of which nothing but the imports was changed."""

import h5py
import numpy as np
import pytest

from experiments.keras_yolo3.train import COCO, create_model, train, write_annotations
from yolo_jax.core.anchors import TINY


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
@pytest.mark.filterwarnings("ignore:.*keep their weights")
def test_the_script_trains_in_two_stages(tmp_path, capsys):
    annotations = tmp_path / "train.txt"
    write_annotations(COCO, annotations)
    lines = annotations.read_text().splitlines()
    assert len(lines) == 40
    annotations.write_text("\n".join(lines[:12]))
    anchors = np.array(TINY.sizes)
    start = tmp_path / "start.h5"
    create_model((64, 64), anchors, 1).save_weights(start)
    log_dir = f"{tmp_path}/logs/000/"
    model = train(
        annotations, log_dir, weights_path=start, input_shape=(64, 64), epochs=(3, 5), batch_size=4
    )
    assert model.history.epoch == [3, 4]
    assert model.history.history["lr"] == pytest.approx([1e-4, 1e-4])
    names = {path.name for path in (tmp_path / "logs" / "000").iterdir()}
    assert {"trained_weights_stage_1.h5", "trained_weights_final.h5"} <= names
    assert sum(name.startswith("ep003-loss") and name.endswith(".h5") for name in names) == 1
    assert any("tfevents" in name for name in names)
    # Stage one left the body as it was and moved the outputs; stage two moved all.
    files = [
        start,
        *(tmp_path / "logs" / "000" / f"trained_weights_{s}.h5" for s in ("stage_1", "final")),
    ]
    kernels = []
    for file in files:
        with h5py.File(file) as content:
            kernels.append(
                {n: np.array(content[n][n]["kernel:0"]) for n in ("conv2d_1", "conv2d_10")}
            )
    before, heads, final = kernels
    np.testing.assert_array_equal(before["conv2d_1"], heads["conv2d_1"])
    assert (before["conv2d_10"] != heads["conv2d_10"]).any()
    assert (heads["conv2d_1"] != final["conv2d_1"]).any()
    assert "Epoch 5/5" in capsys.readouterr().out
