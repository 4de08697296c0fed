"""Output that nobody reads, or that is full or closed: commands end quietly or in a sentence, with the right code."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netslim_cli.streams import guarded

FULL = [
    ("netslim --help", ""),
    ("netslim inspect {0}", ""),
    ("netslim inspect {0} --json", "1"),
    ("gradaug --version", "1"),
]
CLOSED = ["netslim --version", "gradaug train --help", "netslim inspect {0}"]


def command(line: str, converted: str, folder: Path, **streams: object) -> subprocess.CompletedProcess[bytes]:
    name, *arguments = line.format(converted).split()
    return subprocess.run([sys.executable, "-m", name, *arguments], cwd=folder, **streams)  # type: ignore[call-overload]


@pytest.mark.parametrize(("line", "unbuffered"), FULL)
def test_a_full_output_is_one_sentence(
    line: str, unbuffered: str, converted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        done = command(line, converted, tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.stderr == b"error: cannot write to standard output: No space left on device.\n"
    assert done.returncode == 1


@pytest.mark.parametrize("line", CLOSED)
def test_a_reader_that_leaves_ends_it_quietly(line: str, converted: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = command(line, converted, tmp_path, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.stderr, done.returncode) == (b"", 141)


def test_messages_that_cannot_be_written_end_it_as_well(converted: str, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = command("netslim inspect nothing.pt", converted, tmp_path, stdout=subprocess.PIPE, stderr=full)
    assert (done.stdout, done.returncode) == (b"", 1)


def test_a_command_runs_without_output(converted: str, tmp_path: Path) -> None:
    close = {"preexec_fn": lambda: os.close(1)}
    done = command(f"netslim inspect {converted}", converted, tmp_path, stderr=subprocess.PIPE, **close)
    assert (done.stderr, done.returncode) == (b"", 0)


def test_characters_that_the_output_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    with guarded():
        print("3×3 \udcff")
    assert narrow.buffer.getvalue() == b"3\\xd73 \\udcff\n"  # type: ignore[attr-defined]
    assert sys.stdout is narrow
