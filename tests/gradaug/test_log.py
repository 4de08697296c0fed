"""The record of a run: cut back on a resume, never half of it, damaged lines named."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradaug.errors import OutputError
from gradaug.log import RunLog, keep_until

GOOD = b'{"event": "step", "step": 10}\n{"event": "step", "step": 20}\n'


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


@pytest.mark.parametrize("tail", [b"", b'{"event": "st', b"\xff\xfe", b"\0\0\0", b'{"event": "step", "step": 30}'])
def test_lines_beyond_a_step_and_a_torn_end_are_dropped(metrics: Path, tail: bytes) -> None:
    metrics.write_bytes(GOOD + tail)
    keep_until(metrics, 20)
    assert metrics.read_bytes() == GOOD
    keep_until(metrics, 10)
    assert metrics.read_bytes() == GOOD.splitlines(keepends=True)[0]
    keep_until(metrics.with_name("nothing"), 10)


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe{}",
        b"[1, 2]",
        b'"step"',
        b"7",
        b"null",
        b"{}",
        b'{"step": "3"}',
        b'{"step": true}',
        b'{"step":',
        b"[" * 99999,
    ],
)
def test_a_damaged_line_is_named_and_the_file_stays(metrics: Path, line: bytes) -> None:
    metrics.write_bytes(GOOD + line + b"\n" + GOOD)
    with pytest.raises(OutputError, match=r"line 3 of .*metrics\.jsonl is damaged; delete that line"):
        keep_until(metrics, 20)
    assert metrics.read_bytes() == GOOD + line + b"\n" + GOOD


def test_the_record_is_there_until_its_replacement_is_whole(metrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.write_bytes(GOOD)

    def killed(self: Path, content: bytes) -> int:
        assert metrics.read_bytes() == GOOD
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        keep_until(metrics, 10)
    assert metrics.read_bytes() == GOOD


def test_a_log_adds_to_what_is_there(metrics: Path) -> None:
    metrics.write_bytes(GOOD)
    with RunLog(metrics.parent, 20) as log:
        assert metrics.read_bytes() == GOOD
        log.step(30, 1, 0.5, 0.1, 0.01)
    assert metrics.read_bytes().startswith(GOOD)
    assert metrics.read_bytes().count(b"\n") == 3


def test_a_disk_that_fills_up_is_a_sentence(metrics: Path) -> None:
    metrics.symlink_to("/dev/full")
    with (
        pytest.raises(OutputError, match=r"cannot write .*metrics\.jsonl: No space left on device"),
        RunLog(metrics.parent) as log,
    ):
        log.step(10, 1, 0.5, 0.1, 0.01)
