import asyncio

import numpy as np
import pytest
from tiny_server import tiny_model

from yolo_jax.detection.nms import Suppression
from yolo_jax.serve.batches import Batches


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def noise(width: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (40, width, 3), np.uint8)


async def gathered(batches: Batches, asked: list[tuple[int, Suppression]]) -> list:
    looked = [batches.detect(noise(width), how) for width, how in asked]
    return await asyncio.gather(*looked, return_exceptions=True)


def test_everyone_gets_his_own_and_waiting_ones_are_looked_at_together(model, monkeypatch):
    low, high = Suppression(0.2, 0.5), Suppression(0.25, 0.5)
    asked = [(50 + number, high if number == 3 else low) for number in range(6)]
    batches = Batches(model, 3)
    batches.warm_up(Suppression())
    compiled = model.detector._run._cache_size()
    sizes, show = [], batches._show
    monkeypatch.setattr(
        batches, "_show", lambda frames, how: (sizes.append(len(frames)), show(frames, how))[1]
    )
    results = asyncio.run(gathered(batches, asked))
    # The first comes alone; of those that wait the like are taken along, by powers of two.
    assert sorted(sizes) == [1, 1, 2, 2]
    assert model.detector._run._cache_size() == compiled == 2
    for (width, how), found in zip(asked, results, strict=True):
        assert found.pixels.shape[1] == width
        alone = model.detect(noise(width), conf=how.score_threshold, iou=how.iou_threshold)[0]
        assert found.names == alone.names
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=0.05)


def test_a_failure_is_told_to_all_of_its_batch_and_to_no_other(model):
    batches = Batches(model, 2)

    async def looked():
        nothing = np.zeros((0, 0, 3), np.uint8)
        first = [batches.detect(noise(60), Suppression(0.2)) for _ in range(1)]
        rest = [batches.detect(nothing, Suppression(0.3)) for _ in range(2)]
        whole = [batches.detect(noise(61), Suppression(0.2))]
        return await asyncio.gather(*first, *rest, *whole, return_exceptions=True)

    first, *failed, last = asyncio.run(looked())
    assert (first.pixels.shape[1], last.pixels.shape[1]) == (60, 61)
    assert all(isinstance(one, Exception) for one in failed)


def test_who_gave_up_waiting_leaves_nothing_behind(model):
    batches = Batches(model, 2)

    async def looked():
        tasks = [
            asyncio.create_task(batches.detect(noise(60 + n), Suppression(0.2))) for n in range(4)
        ]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third, fourth = asyncio.run(looked())
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(third, asyncio.CancelledError)
    assert (second.pixels.shape[1], fourth.pixels.shape[1]) == (61, 63)
    assert batches._waiting == []
