"""Processes that start together meet each other, whatever an earlier start left in the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from gradaug.distributed.meeting import Meeting, meet


def gathering(store: dist.Store, size: int = 3) -> list[Meeting]:
    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(lambda rank: meet(store, rank, size, patience=60), range(size)))


def together(meetings: list[Meeting]) -> bool:
    """Whether what one of them writes is what the others read."""
    meetings[0].store.set("word", "here")
    return all(meeting.store.check(["word"]) for meeting in meetings)


def test_all_of_a_start_have_a_store_of_their_own() -> None:
    meetings = gathering(dist.HashStore())
    assert together(meetings)
    assert not any(meeting.again for meeting in meetings)


def test_a_second_start_reads_nothing_of_the_first() -> None:
    store = dist.HashStore()
    gathering(store)[0].store.set("address", "gone")
    second = gathering(store)
    assert together(second)
    assert not any(meeting.store.check(["address"]) for meeting in second)
    assert all(meeting.again for meeting in second)


def left_behind(store: dist.Store, rank: int) -> None:
    """A process of three that started alone, and ended."""
    with pytest.raises(RuntimeError, match="Timed out"):
        meet(store, rank, 3, patience=0)


@pytest.mark.parametrize("gone", [(0,), (1,), (0, 1), (1, 2, 0)])
def test_processes_that_are_gone_are_not_met(gone: tuple[int, ...]) -> None:
    store = dist.HashStore()
    for rank in gone:
        left_behind(store, rank)
    assert together(gathering(store))


def test_a_launchers_name_for_a_start_does_not_part_its_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher of each machine counts how often it has started processes, and names the store by that."""
    store = dist.HashStore()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with ThreadPoolExecutor(2) as threads:
        meetings = list(
            threads.map(lambda rank: meet(dist.PrefixStore(f"attempt_{rank}", store), rank, 2, patience=60), range(2))
        )
    assert together(meetings)
    assert all(meeting.again for meeting in meetings)
