"""Writes are whole or not at all."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import netslim
from netslim.errors import ArchiveError, SourceError
from netslim.export import write_module, write_onnx, write_state_dict
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


def test_a_replaced_file_hands_on_its_permissions_and_nothing_touches_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.pt"
    path.touch()
    path.chmod(0o640)
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("other threads make files, too"))
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)


# ---- links, devices, names


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_file_is_written(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "disk").mkdir()
    if exists:
        (tmp_path / "disk" / "file.pt").write_text("old")
    (tmp_path / "second").symlink_to("disk/file.pt")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    with atomic_write(check_writable(tmp_path / "first")) as temporary:
        assert temporary.parent == tmp_path / "disk"
        temporary.write_text("new")
    assert (tmp_path / "disk" / "file.pt").read_text() == "new"
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()


def refused(path: Path | str, message: str) -> None:
    """Before, and when it comes to writing; nothing changes."""
    with pytest.raises(ArchiveError, match=message):
        check_writable(path)
    with pytest.raises(ArchiveError, match=message), atomic_write(path):
        pass


def test_links_that_go_round_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused(tmp_path / "a", "cannot write .*a: Too many levels of symbolic links")
    assert (tmp_path / "a").is_symlink()


def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null"), Path("/dev/full")):
        refused(path, "it is a device or a pipe; name a file")
    assert Path("/dev/null").is_char_device()
    assert (tmp_path / "pipe").is_fifo()


def test_the_file_that_takes_the_output_is_not_replaced(tmp_path: Path) -> None:
    program = "from netslim.files import check_writable\ncheck_writable('/dev/stdout')"
    with (tmp_path / "said").open("w") as out:
        done = subprocess.run([sys.executable, "-c", program], stdout=out, stderr=subprocess.PIPE, text=True)
    assert "it is where this command's messages go; name another file" in done.stderr


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 252}.pt"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    refused(tmp_path / ("n" * 256), "File name too long")
    refused("a\0b", "null byte")


# ---- a disk that is full: here a limit on the size of files, which the system enforces in the same place


@pytest.fixture
def full() -> Iterator[None]:
    """No file may grow beyond 4 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


MODEL = nn.Sequential(nn.Conv2d(1, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))


@pytest.mark.parametrize("name", ["state.pt", "module.pt", "module.onnx", "converted.pt"])
@pytest.mark.filterwarnings("ignore")
def test_a_writer_that_meets_a_full_disk_says_so_and_leaves_nothing(
    tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    path = tmp_path / "new" / "folder" / name
    net = netslim.convert(MODEL, torch.randn(2, 1, 12, 12), prove=False)
    writers: dict[str, Callable[[], None]] = {
        "state.pt": lambda: write_state_dict(net.state_dict(), path),
        "module.pt": lambda: write_module(MODEL, path),
        "module.onnx": lambda: write_onnx(MODEL, net.plan.inputs, path),
        "converted.pt": lambda: netslim.save(net, path),
    }
    request.getfixturevalue("full")
    with pytest.raises(ArchiveError, match=rf"cannot write .*{name}: File too large"):
        writers[name]()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 64 vs 0"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_librarys_own_word_for_a_full_disk_is_translated(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(ArchiveError, match=r"cannot write .*: (the disk is full|No space left on device)"),
        atomic_write(tmp_path / "file.pt"),
    ):
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError("sizes do not match"), SourceError("no such model")])
def test_an_error_that_is_not_the_systems_passes_through(tmp_path: Path, error: Exception) -> None:
    def write() -> None:
        with atomic_write(tmp_path / "new" / "file.pt"):
            try:
                (tmp_path / "another").read_text()
            except OSError:
                raise error from None

    with pytest.raises(type(error), match=str(error)):
        write()
    assert list(tmp_path.iterdir()) == []
