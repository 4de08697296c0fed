"""Every mistake of the command line: one clear sentence on stderr, nothing on stdout, exit code 1 (2 for bad usage)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from netslim_cli.main import netslim

NET = """
from torch import nn

class {name}(nn.Module):
    def __init__(self{arguments}):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)){wrong})
"""


def net(name: str = "Net", arguments: str = "", wrong: str = "") -> str:
    return NET.format(name=name, arguments=arguments, wrong=wrong)


FILES = {
    "good.py": net(),
    "syntax.py": "def f(:\n",
    "empty.py": "x = 1\n",
    "two.py": net("A") + net("B"),
    "needy.py": net(arguments=", width"),
    "raises.py": net(arguments=", x=1 / 1").replace("super().__init__()", "raise OSError('no disk')"),
    "fails.py": net(wrong=" @ undefined"),
}

CONVERT = ("convert", "--input-shape", "1,8,8")

CASES = {
    "missing file": ([*CONVERT, "nofile.py"], ["there is no file nofile.py."]),
    "syntax error": ([*CONVERT, "syntax.py"], ["syntax.py:1 has a syntax error: "]),
    "no model": ([*CONVERT, "empty.py"], ["empty.py defines no model"]),
    "two candidates": ([*CONVERT, "two.py"], ["two.py has 2 candidates: A, B; choose one with --entry NAME."]),
    "arguments": ([*CONVERT, "needy.py"], ["needy.py:Net needs argument width: add --arg width=VALUE."]),
    "constructor": ([*CONVERT, "raises.py"], ["raises.py:6 raises OSError: no disk."]),
    "wrong shape": (["convert", "--input-shape", "3,8,8", "good.py"], ["error: "]),
    "wrong rank": (["convert", "--input-shape", "8", "good.py"], ["error: "]),
    "forward fails": ([*CONVERT, "fails.py"], ["undefined", "fails.py"]),
    "output is a folder": ([*CONVERT, "good.py", "-o", "folder"], ["cannot write folder: it is a folder"]),
    "output under a file": ([*CONVERT, "good.py", "-o", "good.py/x.pt"], ["cannot write good.py/x.pt: good.py is not"]),
    "output is refused": ([*CONVERT, "good.py", "-o", "/proc/x.pt"], ["cannot write /proc/x.pt"]),
    "unknown model": (["convert", "torchvision:resnet5O"], ["did you mean resnet50"]),
    "damaged archive": (["verify", "damaged.pt"], ["damaged.pt"]),
    "empty archive": (["verify", "empty.pt"], ["empty.pt"]),
    "foreign archive": (["inspect", "foreign.pt"], ["foreign.pt"]),
    "missing archive": (["inspect", "nowhere.pt"], ["nowhere.pt"]),
    "archive is a folder": (["restore", "folder", "-o", "x.pt"], ["folder"]),
}

USAGE = {
    "no source": ["convert"],
    "no shape": ["convert", "good.py", "--input-shape", "3x8"],
    "no width": ["extract", "converted.pt", "--width", "2", "-o", "slim.pt"],
    "no suffix": ["extract", "converted.pt", "--width", "0.5", "-o", "slim.txt"],
    "source options for an archive": ["inspect", "foreign.pt", "--entry", "Net"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    Path("folder").mkdir()
    torch.save({"weight": torch.zeros(100)}, "foreign.pt")
    Path("damaged.pt").write_bytes(Path("foreign.pt").read_bytes()[:300])
    Path("empty.pt").touch()
    return tmp_path


def run(arguments: list[str]) -> Result:
    return CliRunner().invoke(netslim, arguments)


@pytest.mark.parametrize(("arguments", "parts"), CASES.values(), ids=list(CASES))
def test_a_mistake_is_one_sentence_and_exit_code_1(folder: Path, arguments: list[str], parts: list[str]) -> None:
    result = run(arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    said = result.stderr.splitlines()[-1]
    assert said.startswith("error: ")
    assert said.endswith((".", "?", ")"))
    assert len(said) < 400
    for part in parts:
        assert part in said
    assert not Path("converted.pt").exists()


@pytest.mark.parametrize("arguments", USAGE.values(), ids=list(USAGE))
def test_bad_usage_is_exit_code_2(folder: Path, arguments: list[str]) -> None:
    result = run(arguments)
    assert result.exit_code == 2, result.output
    assert "Error: " in result.stderr
