"""What a single process is told before it trains; `test_pod_runs` has what several have alike."""

import dataclasses
from pathlib import Path
from typing import cast

import jax
import pytest

from yolo_jax.agreement import check_start
from yolo_jax.config import load_config
from yolo_jax.networks.yolov3 import Network

CONFIG = load_config(Path(__file__).parent / "configs" / "short.py")


@pytest.mark.parametrize(("rows", "is_told"), [(4, True), (12, True), (8, False), (64, False)])
def test_rows_that_do_not_divide_among_devices_are_told_of(
    rows: int, is_told: bool, caplog: pytest.LogCaptureFixture
):
    assert jax.device_count() == 8
    unread = cast(Network, None)  # a single process agrees with itself
    check_start(dataclasses.replace(CONFIG, batch_size=rows), unread, ())
    said = [record.getMessage() for record in caplog.records]
    assert said == is_told * [
        f"a batch of {rows} rows does not divide among 8 devices; give --batch-size a multiple of "
        "8, or --batch-size-per-device in its place (with --batch-size None): it is filled up by "
        "rows that count nothing"
    ]
