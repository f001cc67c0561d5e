"""`Enqueuer`: order, passes, shuffling and generators, with threads and with spawned processes."""

import multiprocessing
import os
import random
import threading
import time
import traceback
from itertools import count, islice

import pytest
from number_sequences import KINDS, Numbers, fewer, kinds, running, without_pid

from yolo_jax.model.enqueuer import Enqueuer


@kinds
def test_order_is_kept_over_passes_whose_length_changes(workers, processes):
    numbers = Numbers(5, grow=1, delay=0.002)
    with Enqueuer(numbers, workers=workers, use_multiprocessing=processes) as items:
        found = list(islice(items, 5 + 6 + 2))
    wanted = [(p, i) for p, n in ((0, 5), (1, 6), (2, 2)) for i in range(n)]
    assert without_pid(found) == wanted
    in_this_process = {item[2] == os.getpid() for item in found}
    assert in_this_process == {not processes or workers == 0}
    assert numbers.ended == 2
    assert not running()
    assert not multiprocessing.active_children()


@fewer
def test_on_epoch_end_waits_for_the_last_item_and_runs_before_the_next_is_built(workers, processes):
    numbers = Numbers(3)
    items = Enqueuer(numbers, workers=workers, use_multiprocessing=processes)
    next(items)
    items.end_pass()
    assert numbers.ended == 0
    next(items), next(items)
    assert numbers.ended == 0
    items.end_pass()
    items.end_pass()
    assert numbers.ended == 1
    assert next(items)[:2] == (1, 0)
    next(items), next(items)
    assert next(items)[:2] == (2, 0)
    assert numbers.ended == 2
    items.close()
    assert numbers.ended == 2


def test_leaving_after_a_whole_pass_runs_on_epoch_end_once():
    numbers = Numbers(3)
    with Enqueuer(numbers, workers=2) as items:
        list(islice(items, 6))
        assert numbers.ended == 1
    assert numbers.ended == 2
    with pytest.raises(KeyError), Enqueuer(numbers, workers=2) as items:
        list(islice(items, 3))
        raise KeyError
    assert numbers.ended == 2


def test_no_more_is_built_ahead_than_the_queue_holds():
    built = []

    class Recorded(Numbers):
        def __getitem__(self, index):
            built.append(index)
            return super().__getitem__(index)

    with Enqueuer(Recorded(50), workers=4, max_queue_size=3) as items:
        next(items)
        time.sleep(0.1)
        # The one taken, and three ahead.
        assert sorted(built) == [0, 1, 2, 3]


def test_a_limit_reads_no_more_than_asked_for():
    generator = count()
    assert list(Enqueuer(generator, workers=3, limit=7)) == list(range(7))
    assert next(generator) == 7
    numbers = Numbers(3)
    with Enqueuer(numbers, workers=3, limit=6) as items:
        assert without_pid(items) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert numbers.ended == 2


@pytest.mark.parametrize(("workers", "processes"), KINDS[:3])
def test_shuffling(workers, processes):
    def orders(**options):
        random.seed(3)
        with Enqueuer(
            Numbers(7), workers=workers, use_multiprocessing=processes, shuffle=True, **options
        ) as items:
            found = [item[1] for item in islice(items, 14)]
        return found[:7], found[7:]

    wanted = list(range(7))
    first, second = orders(seed=5)
    assert sorted(first) == sorted(second) == wanted
    assert first != wanted and first != second
    assert (first, second) == ([5, 3, 6, 1, 0, 4, 2], [2, 4, 6, 3, 0, 5, 1])
    if workers == 0:
        assert orders() == (wanted, wanted)
        return
    # As Keras: the global generator shuffles the order of the pass before.
    random.seed(3)
    order, passes = list(range(7)), []
    for _ in range(2):
        random.shuffle(order)
        passes.append(list(order))
    assert orders() == tuple(passes)


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_amid_the_stream_gives_what_follows(workers):
    def read(start):
        with Enqueuer(Numbers(4, grow=1), workers=workers, shuffle=True, seed=1, start=start) as e:
            return without_pid(islice(e, 12))

    whole = read(0)
    for start in (1, 4, 6, 9):
        assert read(start)[: 12 - start] == whole[start:]
    with Enqueuer(iter("abcdef"), workers=workers, start=2) as items:
        assert list(items) == list("cdef")


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_generator_is_read_in_order_to_its_end_and_never_by_two_at_once(workers):
    at_once = []

    def generate():
        lock = threading.Lock()
        for number in range(30):
            at_once.append(lock.acquire(blocking=False))
            time.sleep(0.001)
            lock.release()
            yield number

    with Enqueuer(generate(), workers=workers, max_queue_size=4) as items:
        assert list(items) == list(range(30))
        assert list(items) == []
    assert all(at_once)
    assert not running()


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_generators_exception_comes_after_the_items_before_it(workers):
    def generate():
        yield from range(5)
        raise OSError("disk gone")

    items = Enqueuer(generate(), workers=workers)
    assert list(islice(items, 5)) == list(range(5))
    with pytest.raises(OSError, match="disk gone") as caught:
        next(items)
    assert "in generate" in "".join(traceback.format_exception(caught.value))


def test_a_generator_with_processes_warns_as_keras_does_and_is_read_once():
    with pytest.warns(UserWarning, match="may duplicate your data"):
        items = Enqueuer(iter(range(20)), workers=4, use_multiprocessing=True)
    assert list(items) == list(range(20))
    assert list(Enqueuer(iter(range(3)), workers=1, use_multiprocessing=True)) == [0, 1, 2]


def test_what_cannot_be_read_is_refused():
    with pytest.raises(TypeError, match="found function: call the generator function"):
        Enqueuer(lambda: None)
    with pytest.raises(TypeError, match="found list"):
        Enqueuer([1, 2])
    with pytest.raises(ValueError, match="max_queue_size is 1 or more; found 0"):
        Enqueuer(iter([]), max_queue_size=0)
    with pytest.raises(ValueError, match="found -1"):
        Enqueuer(iter([]), workers=-1)
    with pytest.raises(ValueError, match="Numbers is empty: its len.. is 0 in pass 0"):
        next(Enqueuer(Numbers(0)))
    with pytest.raises(ValueError, match="empty: its len.. is 0 in pass 2"):
        list(islice(Enqueuer(Numbers(2, grow=-1)), 9))
