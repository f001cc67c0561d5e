"""The warnings of a run: counted, kept at once, and added to those of its earlier starts."""

import json
import logging
import warnings
from pathlib import Path

import pytest

from yolo_jax.report.warned import collected_warnings


def test_warnings_are_shown_counted_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path, log = tmp_path / "warnings.json", logging.getLogger("yolo_jax.somewhere")
    for start in (1, 2):
        with warnings.catch_warnings(record=True) as shown, collected_warnings() as warned:
            warnings.simplefilter("always")
            log.warning("before there is a folder")
            warned.keep_in(path)
            log.info("not a warning")
            log.error("%d images are gone", 3)
            assert "3 images are gone" in path.read_text()  # at once, for it may be killed
            for _ in range(2):
                warnings.warn("of old age", DeprecationWarning, stacklevel=1)
        assert len(shown) == 2
        assert json.loads(path.read_text()) == [
            {"kind": "warning", "text": "before there is a folder", "count": start},
            {"kind": "error", "text": "3 images are gone", "count": start},
            {"kind": "warning", "text": "DeprecationWarning: of old age", "count": 2 * start},
        ]
    assert "before there is a folder" in caplog.text
    log.warning("after it")
    assert "after it" not in path.read_text()


def test_trials_that_train_together_have_a_file_each(tmp_path: Path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text('[{"kind": "warning", "text": "of its own", "count": 1}]')
    with collected_warnings() as warned:
        for path in (old, new):
            warned.keep_in(path)
        logging.getLogger("yolo_jax").warning("of both")
    both = {"kind": "warning", "text": "of both", "count": 1}
    assert json.loads(new.read_text()) == [both]
    assert json.loads(old.read_text()) == [
        {"kind": "warning", "text": "of its own", "count": 1},
        both,
    ]


def test_a_run_that_never_began_leaves_nothing_and_a_damaged_file_is_told(tmp_path: Path):
    with collected_warnings():
        logging.getLogger("yolo_jax").warning("idle")
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / "warnings.json"
    path.write_text('[{"kind": "warning"}]')
    with (
        pytest.raises(
            ValueError, match=r"warnings\.json is damaged: 0 lacks \['count', 'text'\]; delete"
        ),
        collected_warnings() as warned,
    ):
        warned.keep_in(path)
