"""Full batches from many planes, and what that must not change."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_all_detect.batch.gathering import GatheringEngine

N_MEMBERS = 3


class Noting:
    """Gives a cell's number; notes what it was asked for at once."""

    name, device = "noting", "cpu"

    def __init__(self) -> None:
        self.batches: list[tuple[int, tuple[int, ...] | None]] = []
        self.busy = threading.Lock()

    def predict(
        self, crops: NDArray[np.uint8], progress: Any = None, members: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        assert not len(crops) or self.busy.acquire(blocking=False), "two batches at once"
        try:
            self.batches.append((len(crops), None if members is None else tuple(members)))
            if (crops == 255).any():
                raise MemoryError
            chosen = np.arange(N_MEMBERS) if members is None else np.asarray(members)
            numbers = crops[:, 0, 0, 0].astype(np.float32)
            return np.stack([numbers[:, None] + chosen, numbers[:, None] - chosen], axis=2).astype(np.float32)
        finally:
            if len(crops):
                self.busy.release()


def crops_of(numbers: Sequence[int]) -> NDArray[np.uint8]:
    return np.broadcast_to(np.asarray(numbers, np.uint8).reshape(-1, 1, 1, 1), (len(numbers), 2, 2, 3))


def ask(engine: GatheringEngine, planes: Sequence[Sequence[int]], threads: int) -> list[Any]:
    """Ask for each plane in a thread, as a run does; return what each got, or its error."""

    def one(k: int) -> Any:
        told: list[int] = []
        with engine.plane():
            engine.wait_for_room()
            try:
                found = engine.predict(crops_of(planes[k]), told.append)
            except MemoryError as error:
                return error
        assert sum(told) == len(planes[k])
        return found

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(len(planes))))


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.integers(0, 254), max_size=30), max_size=12),
    st.integers(1, 6),
    st.integers(1, 9),
)
def test_each_plane_gets_its_own(planes: list[list[int]], threads: int, batch_size: int) -> None:
    inner = Noting()
    found = ask(GatheringEngine(inner, batch_size), planes, threads)
    for numbers, own in zip(planes, found, strict=True):
        np.testing.assert_array_equal(own, Noting().predict(crops_of(numbers)))
    assert sum(n for n, _ in inner.batches) == sum(map(len, planes))
    assert all(n <= batch_size for n, _ in inner.batches)


def test_planes_of_few_cells_share_their_batches() -> None:
    inner = Noting()
    engine, together = GatheringEngine(inner, 8), threading.Barrier(8, timeout=60)

    def score(k: int) -> None:
        with engine.plane():
            together.wait()
            engine.predict(crops_of([k, k + 1, k + 2]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(score, range(64)))
    # 24 cells come together, three batches; of three alone, the engine would see three at a time.
    assert [n for n, _ in inner.batches] == [8] * 24


def test_a_full_batch_does_not_wait_for_a_slow_plane() -> None:
    engine, slow, done = GatheringEngine(Noting(), 4), threading.Event(), threading.Event()

    def linger() -> None:
        with engine.plane():
            slow.wait(120)

    def score() -> None:
        with engine.plane():
            engine.predict(crops_of([1, 2, 3, 4]))
        done.set()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(linger)
        pool.submit(score)
        finished = done.wait(60)
        slow.set()
    assert finished


def test_no_more_is_found_than_the_engine_can_use() -> None:
    slow = Noting()
    engine, passed, begun, go = GatheringEngine(slow, 4), threading.Event(), threading.Event(), threading.Event()
    predict = slow.predict

    def held(*arguments: Any, **options: Any) -> Any:
        begun.set()
        go.wait(120)
        return predict(*arguments, **options)

    slow.predict = held  # type: ignore[method-assign]

    def enter() -> None:
        engine.wait_for_room()
        passed.set()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(ask, engine, [range(9)], threads=1)
        assert begun.wait(60)  # four cells are with the engine, five wait
        pool.submit(enter)
        early = passed.wait(0.2)
        go.set()
        assert passed.wait(60)
    assert not early


def test_what_goes_wrong_in_a_batch_is_raised_in_its_planes_and_in_no_other() -> None:
    engine = GatheringEngine(Noting(), 4)
    first = ask(engine, [[1, 2, 3, 4], [5, 255, 6, 7]], threads=1)
    assert len(first[0]) == 4
    assert isinstance(first[1], MemoryError)
    assert len(ask(engine, [[8, 9]], threads=1)[0]) == 2


def test_a_plane_that_is_given_up_holds_up_no_other() -> None:
    class GivenUpError(Exception):
        pass

    def give_up(n: int) -> None:
        raise GivenUpError

    engine = GatheringEngine(Noting(), 4)
    with pytest.raises(GivenUpError), engine.plane():
        engine.predict(crops_of(range(9)), give_up)
    assert len(ask(engine, [[1]], threads=1)[0]) == 1
