"""Writes are whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from netslim.errors import ArchiveError
from netslim.files import atomic_write, check_writable


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.pt"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent
        assert temporary.suffix == ".pt"
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_text("old")

    def write() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    with atomic_write(tmp_path / "file.pt"):
        pass
    assert (tmp_path / "file.pt").stat().st_mode == ordinary.stat().st_mode


def test_a_full_disk_is_an_archive_error(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_write(tmp_path / "file.pt"):
            raise OSError(28, "No space left on device")

    with pytest.raises(ArchiveError, match=r"cannot write .*file\.pt: No space left on device\."):
        write()


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    assert check_writable(tmp_path / "a" / "b.pt") == tmp_path / "a" / "b.pt"
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveError, match="it is a folder; name a file inside it"):
        check_writable(tmp_path)
    with pytest.raises(ArchiveError, match="file is not a folder"):
        check_writable(tmp_path / "file" / "x.pt")
    with pytest.raises(ArchiveError, match="file is not a folder"):
        check_writable(tmp_path / "file" / "deeper" / "x.pt")
    with pytest.raises(ArchiveError, match="cannot write"):
        check_writable("/proc/netslim.pt")
