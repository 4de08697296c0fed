"""Where in the model's own source a run is."""

from __future__ import annotations

import functools
import os
import sys

import torch

ROOT = "call_the_model"  # the function under which a model's own frames begin
_OURS = os.path.dirname(os.path.dirname(__file__))  # all of netslim
_SKIPPED = (os.path.dirname(torch.__file__) + os.sep, _OURS + os.sep, "<")


@functools.cache
def is_user_file(filename: str) -> bool:
    """Whether a source file belongs to neither torch nor netslim."""
    return not filename.startswith(_SKIPPED)


def user_line() -> str:
    """file:line of the innermost frame of the model that belongs to neither torch nor netslim, or an empty string."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != ROOT:
        filename = frame.f_code.co_filename
        if is_user_file(filename):
            return f"{os.path.basename(filename)}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""
