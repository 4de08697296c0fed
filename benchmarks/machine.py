"""On what a figure was measured, when, and by which command: every page of figures says so."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import torch
from click.core import ParameterSource


def described(device: str = "cpu") -> str:
    """Processor, cores, versions and date, in a line."""
    date = dt.date.today()
    name = (
        torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{_processor()}, {os.cpu_count()} cores"
    )
    versions = f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}"
    return f"{name}, {versions}, {date.day} {date:%B %Y}"


def of(rows: Iterable[dict[str, Any]]) -> str:
    """Where and when the rows were measured."""
    return "; ".join(dict.fromkeys(row["measured"] for row in rows))


def command(script: str) -> str:
    """The command line that runs, with the options that were given."""
    context = click.get_current_context()
    words = ["python", f"benchmarks/{script}.py"]
    for parameter in context.command.params:
        value = context.params[parameter.name or ""]
        if context.get_parameter_source(parameter.name or "") != ParameterSource.COMMANDLINE:
            continue
        if isinstance(parameter, click.Argument):
            words += map(str, value if parameter.nargs == -1 else (value,))
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            words += [parameter.opts[0]]
        else:
            words += [
                word for one in (value if parameter.multiple else (value,)) for word in (parameter.opts[0], str(one))
            ]
    return shlex.join(words)


def _processor() -> str:
    """The model of the processor, as Linux names it."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
