"""One run at a time in a folder, whatever becomes of it; nothing of a folder changes before it is ours."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gradaug
from gradaug.errors import OutputError
from gradaug.training import folder as folders
from gradaug.training.folder import RunFolder
from gradaug.training.loop import train
from netslim import SlimNet

TAKEN = "another run .*is writing to .*run; wait for its end, or choose another --out"

HOLD = """
import os, pathlib, sys, time
from gradaug.training.folder import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])).held():
    if os.fork() == 0:  # as a process that loads images
        print("held", flush=True)
        os.close(1)
        os.read(0, 1)
        os._exit(0)
    time.sleep(600)
"""


def test_a_second_run_is_refused_and_touches_nothing(tmp_path: Path, net: SlimNet) -> None:
    one = RunFolder(tmp_path / "run")
    with one.held():
        one.checkpoint.write_text("the first one's")
        for flags in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(OutputError, match=rf"process {os.getpid()} on .*is writing to .*run; wait for its end"):
                train(net, gradaug.TrainConfig(epochs=1), tmp_path / "run", **flags)
        assert one.checkpoint.read_text() == "the first one's"
    with RunFolder(tmp_path / "run").held():
        pass
    assert [path.name for path in one.path.iterdir()] == ["checkpoint.pt"]


def test_the_object_that_holds_a_folder_may_hold_it_again(tmp_path: Path) -> None:
    one = RunFolder(tmp_path / "run")
    with one.held():
        with one.held() as warning:
            assert warning == ""
        with pytest.raises(OutputError, match=TAKEN), RunFolder(tmp_path / "run").held():
            pass


def test_a_refused_or_failed_start_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunFolder(tmp_path / "new" / "run").held():
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_lock_though_its_own_processes_live_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=rf"process {holder.pid} on"), RunFolder(tmp_path / "run").held():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with RunFolder(tmp_path / "run").held():  # the forked process still waits for its input
            pass
        holder.stdin.close()


def _try(path: Path, gate: object, ends: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    try:
        with RunFolder(path).held():
            ends.put(1)  # type: ignore[attr-defined]
            gate.wait()  # type: ignore[attr-defined]
    except OutputError:
        ends.put(0)  # type: ignore[attr-defined]
        gate.wait()  # type: ignore[attr-defined]


def test_of_many_that_start_at_once_one_gets_the_folder(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for _ in range(5):
        gate, ends = fork.Barrier(4), fork.SimpleQueue()
        tries = [fork.Process(target=_try, args=(tmp_path / "run", gate, ends)) for _ in range(4)]
        for each in tries:
            each.start()
        for each in tries:
            each.join()
        assert sorted(ends.get() for _ in tries) == [0, 0, 0, 1]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folders.fcntl, "flock", flock)
    with RunFolder(tmp_path).held() as warning:
        assert os.strerror(number) in warning
        assert "see to it that no second run is started in it" in warning


def test_what_killed_writers_left_is_cleared_and_links_are_followed(tmp_path: Path) -> None:
    one, disk = RunFolder(tmp_path / "run"), tmp_path / "disk"
    (disk / "tensorboard").mkdir(parents=True)
    (disk / "tensorboard" / "events").touch()
    (disk / "checkpoint.pt").touch()
    one.path.mkdir()
    one.checkpoint.symlink_to(disk / "checkpoint.pt")
    one.board.symlink_to(disk / "tensorboard")
    for name in (".checkpoint-0123456789ab.pt", ".trained-0123456789ab.pt", ".metrics-0123456789ab.jsonl", ".mine.pt"):
        (one.path / name).touch()
    one.clear(overwrite=True)
    assert {path.name for path in one.path.iterdir()} == {"checkpoint.pt", "tensorboard", ".mine.pt"}
    assert not (disk / "checkpoint.pt").exists()
    assert list((disk / "tensorboard").iterdir()) == []
