import numpy as np
import pytest

from yolo_jax.model import arrays
from yolo_jax.model.arrays import ArrayFeed, Arrays


@pytest.mark.parametrize("picked_bytes", [1, 24 * 7, 24 * 15, 2**20])
@pytest.mark.parametrize("shuffle", [False, True, "batch"])
def test_batches_are_the_same_however_many_rows_are_picked_at_once(
    monkeypatch, picked_bytes, shuffle
):
    """Rows of 24 bytes in batches of 4: each alone, by one, by three, and all at once."""
    monkeypatch.setattr(arrays, "_PICKED_BYTES", picked_bytes)
    x = np.arange(46.0).reshape(23, 2)
    data = Arrays([x], [x[:, :1] + 0.5], None)
    feed = ArrayFeed(data, batch_size=4, shuffle=shuffle, seed=3)
    stream = feed.batches(start=4, fit=1)
    batches = [next(stream) for _ in range(8)]
    assert [len(batch.x[0]) for batch in batches] == [4, 3, 4, 4, 4, 4, 4, 3]
    orders = [feed._rows(passed, 1) for passed in range(2)]
    rows = np.concatenate([orders[0][16:], orders[1]])
    assert np.array_equal(np.concatenate([batch.x[0] for batch in batches]), x[rows])
    assert np.array_equal(np.concatenate([batch.y[0] for batch in batches]), x[rows, :1] + 0.5)
    assert all(batch.weight is None and batch.row_mask is None for batch in batches)
