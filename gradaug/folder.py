"""The folder of one run, and the promise not to overwrite another run in silence."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from gradaug.errors import OutputError
from netslim.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path


class RunFolder:
    """Names the files of a run in `path`; nothing is created or removed before :meth:`create`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.metrics = path / "metrics.jsonl"
        self.trained = path / "trained.pt"
        self.result = path / "result.json"
        self.board = path / "tensorboard"
        self._files = (self.checkpoint, self.metrics, self.trained, self.result)

    def require_free(self, resume: bool, overwrite: bool) -> None:
        """OutputError when the folder holds a run and neither flag says what to do with it."""
        if resume and overwrite:
            raise OutputError("--resume continues a run and --overwrite deletes it: give one of them")
        if not (resume or overwrite) and any(file.exists() for file in self._files):
            raise OutputError(
                f"{self.path} already holds a run; continue it with --resume, replace it with --overwrite, "
                "or choose another --out"
            )

    def create(self, overwrite: bool) -> None:
        """Makes the folder, and removes a run in it that shall be overwritten; other files stay."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if overwrite:
                for file in self._files:
                    file.unlink(missing_ok=True)
                if self.board.is_dir():
                    shutil.rmtree(self.board)
            for left in self.path.glob(".checkpoint-*.pt"):  # of a process that was killed while it wrote
                left.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror or error}") from error

    def write_result(self, values: dict[str, Any]) -> None:
        """Writes result.json atomically."""
        with atomic_write(self.result) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
