"""A fixed sample of what `make fuzz` tries."""

from __future__ import annotations

from pathlib import Path

from tests.archive.fuzz import flips, mutations, run


def test_damaged_bytes_are_noticed(tmp_path: Path) -> None:
    assert set(run(flips(300, 0, tmp_path))) == {"refused"}


def test_altered_contents_are_refused_or_make_a_sound_network(tmp_path: Path) -> None:
    assert set(run(mutations(200, 0, tmp_path))) <= {"refused", "equal", "sound"}
