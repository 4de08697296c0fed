"""The two groups: quick help, one help text, errors to exit codes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

import click
import pytest
from click.testing import CliRunner

from netslim.errors import SourceError
from netslim_cli import main
from netslim_cli.main import Entry, LazyGroup

GROUPS = {"netslim": main.netslim, "gradaug": main.gradaug}
COMMANDS = [(group, name) for group in GROUPS for name in GROUPS[group].entries]


@pytest.mark.parametrize("line", ["netslim --help", "gradaug --help", "netslim --version", "netslim convert --help"])
def test_help_does_not_import_torch(python: Callable[[str], str], line: str) -> None:
    command, *arguments = line.split()
    said = python(
        f"import sys\nfrom netslim_cli.main import {command}\n"
        f"try: {command}({arguments!r})\nexcept SystemExit: print('torch' in sys.modules)"
    )
    assert said.splitlines()[-1] == "False"


@pytest.mark.parametrize(("group", "name"), COMMANDS)
def test_the_table_and_the_command_say_the_same(group: str, name: str) -> None:
    command = GROUPS[group].entries[name].load()
    assert command.name == name
    assert command.get_short_help_str(limit=200).rstrip(".") == GROUPS[group].entries[name].short_help.rstrip(".")


@pytest.mark.parametrize(("group", "name"), COMMANDS)
def test_every_option_is_explained(group: str, name: str) -> None:
    command = GROUPS[group].entries[name].load()
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert silent == []


@pytest.mark.parametrize("group", GROUPS)
def test_the_console_script_is_the_group(group: str) -> None:
    (script,) = entry_points(group="console_scripts", name=group)
    assert script.load() is GROUPS[group]


# ---- errors to exit codes


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> LazyGroup:
    """A group whose only command raises `error`."""

    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(Entry, "load", lambda _: fail)
    return LazyGroup("tool", entries={"fail": Entry("", "", "Fail.")})


def test_a_mistake_is_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(failing(SourceError("there is no file [x].py."), monkeypatch), ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: there is no file [x].py.\n")


def test_control_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(failing(KeyboardInterrupt(), monkeypatch), ["fail"])
    assert (result.exit_code, result.stderr) == (130, "stopped\n")


def test_bad_usage_is_2() -> None:
    assert CliRunner().invoke(main.netslim, ["nothing"]).exit_code == 2
    assert CliRunner().invoke(main.netslim, ["convert"]).exit_code == 2


def test_a_bug_says_that_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(failing(ZeroDivisionError("oops"), monkeypatch), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)
    assert result.exception.__notes__ == ["This is a bug in tool: please report it with the lines above."]


@pytest.mark.parametrize(("local", "told"), [("0", True), ("1", False)])
def test_the_first_process_of_every_machine_tells_of_its_mistake(
    monkeypatch: pytest.MonkeyPatch, local: str, told: bool
) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", local)
    result = CliRunner().invoke(main.gradaug, ["train", "--model", "not-here.pt"])
    assert result.exit_code == 1
    assert ("not-here.pt" in result.stderr) == told
