"""An extracted network trains on, and a run goes on for more epochs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

import gradaug
import netslim
from gradaug.errors import CheckpointError
from gradaug.training import run as training_run
from gradaug.training.opening import opened
from gradaug.training.record import read
from netslim.errors import ArchiveError, InputError, SourceError
from netslim.notes import OWN
from netslim_cli.evaluate import evaluate
from netslim_cli.extract import extract
from netslim_cli.train import train

from .interrupt import StopAfter, StopError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("few_digits")
QUICK = ["--epochs", "1", "--batch-size", "32", "--round-to", "1"]


def call(command: object, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=False)  # type: ignore[arg-type]


@pytest.fixture
def cut(
    make_net: Callable[..., netslim.SlimNet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Extracts half a network into a form."""
    monkeypatch.chdir(tmp_path)
    netslim.save(make_net(), "converted.pt")

    def cut_it(output: str) -> str:
        assert call(extract, "converted.pt", "--width", "0.5", "-o", output).exit_code == 0
        return output

    return cut_it


# ------------------------------------------------------------------------------------------ extracted networks


@pytest.mark.parametrize("form", ["half", "half.pt"])
@pytest.mark.parametrize("mode", ["none", "both"])
def test_an_extracted_network_trains_on_and_is_written_in_its_form(
    cut: Callable[[str], str], form: str, mode: str
) -> None:
    result = call(train, "--model", cut(form), *QUICK, "--mode", mode, "--trust", "--out", "run", "--json")
    after = json.loads(result.stdout)["after"]
    slim = f"run/slim{Path(form).suffix}"
    scored = json.loads(call(evaluate, "--model", slim, "--trust", "--json").stdout)["scores"][0]
    assert (scored["top1"], scored["width"]) == (after["top1"], 0.5)
    trained = json.loads(call(evaluate, "--model", "run/trained.pt", "--json").stdout)["scores"][0]
    assert (trained["top1"], trained["params"]) == (after["top1"], scored["params"])
    assert call(train, "--model", slim, *QUICK, "--mode", "none", "--trust", "--out", "further").exit_code == 0


@pytest.mark.parametrize(("form", "said"), [("half", "runs its model.py"), ("half.pt", "runs code that it holds")])
def test_what_runs_code_is_opened_with_trust_alone(
    cut: Callable[[str], str], form: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(form)
    if form == "half":
        Path("half/model.py").write_text("raise SystemExit('it ran')")
    else:
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it ran"))
    for command, more in ((train, QUICK), (evaluate, [])):
        with pytest.raises(ArchiveError, match=f"{said}; if you trust the (file|folder), add --trust"):
            call(command, "--model", form, *more)


def test_a_program_that_only_evaluates_is_refused(cut: Callable[[str], str]) -> None:
    with pytest.raises(
        ArchiveError, match=r"half.pt2 is a program of torch.export, which holds .* evaluation mode alone"
    ):
        call(train, "--model", cut("half.pt2"), *QUICK, "--trust")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        (lambda: Path("half/weights.safetensors").write_bytes(b"123"), ArchiveError, "weights.safetensors is damaged"),
        (lambda: Path("half/model.py").write_text("def"), SourceError, "model.py cannot be imported"),
        (lambda: Path("half/model.py").write_text(""), ArchiveError, "gives no network"),
        (lambda: Path("half/model.py").write_text("load = dict"), ArchiveError, "gives a dict and no network"),
        (lambda: Path("half/weights.safetensors").unlink(), ArchiveError, "half is a folder"),
    ],
    ids=["weights", "source", "empty", "another", "missing"],
)
def test_a_damaged_folder_is_a_sentence(
    cut: Callable[[str], str], damage: Callable[[], object], error: type[Exception], said: str
) -> None:
    cut("half")
    damage()
    with pytest.raises(error, match=said):
        call(train, "--model", "half", *QUICK, "--trust")


class OfList(nn.Module):
    """Takes images of a size each, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, images: list[Tensor]) -> Tensor:
        return self.head(torch.stack([self.stem(image[None]).mean((2, 3))[0].relu() for image in images]))


class OfWords(nn.Module):
    """Takes numbers of words, and masks that may be left out; it has double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.body, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.double()

    def forward(self, words: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
        found = self.body(self.words(words)).relu() * scale
        return self.head((found if mask is None else found * mask[..., None]).mean(1))


WORDS = torch.tensor([[1, 8, 2], [3, 3, 0]])


@pytest.mark.parametrize("form", ["slim", "slim.pt"])
@pytest.mark.parametrize(
    ("model", "example"),
    [
        (OfList, ([torch.zeros(1, 9, 9), torch.zeros(1, 7, 8)],)),
        (OfWords, (WORDS,)),
        (OfWords, (WORDS, torch.ones(2, 3, dtype=torch.float64))),
        (OfWords, {"words": WORDS, "scale": 0.5}),
    ],
    ids=["list", "words", "mask", "scale"],
)
def test_it_is_converted_by_inputs_of_the_structure_that_the_full_network_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, model: type[nn.Module], example: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    net = netslim.convert(model(), example).eval()
    netslim.save(net, "converted.pt")
    assert call(extract, "converted.pt", "--width", "0.5", "-o", form).exit_code == 0
    found = opened(form, trust=True).net
    assert found.groups
    args, kwargs = ((), example) if isinstance(example, dict) else (example, {})
    with net.sub(0.5):
        wanted = net(*args, **kwargs)
    torch.testing.assert_close(found(*args, **kwargs), wanted)


def test_overwriting_a_run_removes_its_extracted_network(cut: Callable[[str], str]) -> None:
    call(train, "--model", cut("half"), *QUICK, "--mode", "none", "--trust", "--out", "run")
    assert Path("run/slim/model.py").is_file()
    call(train, "--model", "converted.pt", *QUICK, "--mode", "none", "--out", "run", "--overwrite")
    assert not list(Path("run/slim").iterdir())


# ------------------------------------------------------------------------------------------ more epochs

Run = Any


def weights(net: netslim.SlimNet) -> list[torch.Tensor]:
    return list(net.state_dict().values())


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_with_a_constant_rate_it_is_the_run_that_was_longer_from_the_start(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path
) -> None:
    config = replace(short, schedule="constant", ema=0.9)
    whole, _ = run(replace(config, epochs=3), tmp_path / "whole")
    run(replace(config, epochs=1), tmp_path / "parts")
    parts, result = run(replace(config, epochs=3), tmp_path / "parts", resume=True)
    assert same(weights(whole), weights(parts))
    assert result.to_dict()["lengths"] == [{"epochs": 1, "steps": 4}]
    assert (result.config.epochs, result.steps) == (3, 12)


def test_the_rate_is_that_of_the_longer_run_from_there_on(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    update = training_run.Run.update

    def noted(self: training_run.Run) -> None:
        rates.append(self.optimizer.param_groups[0]["lr"])
        update(self)

    monkeypatch.setattr(training_run.Run, "update", noted)
    run(replace(short, epochs=4), tmp_path / "whole")
    whole = rates[:]
    rates.clear()
    run(short, tmp_path / "parts")
    run(replace(short, epochs=4), tmp_path / "parts", resume=True)
    assert len(rates) == len(whole) == 16
    assert rates[8:] == whole[8:]
    assert rates[1:8] != whole[1:8]


@pytest.mark.parametrize("steps", [2, 6], ids=["before", "after"])
def test_a_longer_run_that_is_interrupted_ends_like_one_that_is_not(
    run: Run, short: gradaug.TrainConfig, tmp_path: Path, steps: int
) -> None:
    longer = replace(short, epochs=4, checkpoint_every=1)
    for name in ("whole", "cut"):
        run(short, tmp_path / name)
    whole, _ = run(longer, tmp_path / "whole", resume=True)
    with pytest.raises(StopError):
        run(longer, tmp_path / "cut", resume=True, progress=StopAfter(steps - 1))
    record = read(tmp_path / "cut")
    assert record.state == f"unfinished: {2 + (steps > 4)} of 4 epochs"
    resumed, result = run(longer, tmp_path / "cut", resume=True)
    assert read(tmp_path / "cut").state == "finished: 4 epochs"
    assert same(weights(whole), weights(resumed))
    assert [(one.epochs, one.steps) for one in result.lengths] == [(2, 8)]


def test_a_run_in_mid_epoch_gets_another_length(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        run(replace(short, checkpoint_every=1), tmp_path, progress=StopAfter(5))
    with pytest.raises(CheckpointError, match=r"is in epoch 2 already \(5 steps\), and --epochs 1 are fewer: give 2"):
        run(replace(short, epochs=1), tmp_path, resume=True)
    assert run(replace(short, epochs=3), tmp_path, resume=True)[1].lengths[0].steps == 5


def test_every_other_setting_stays_the_runs(run: Run, short: gradaug.TrainConfig, tmp_path: Path) -> None:
    run(replace(short, mode="none"), tmp_path)
    with pytest.raises(CheckpointError, match=r"other settings \(lr was 0.05, now 0.01\)"):
        run(replace(short, mode="none", epochs=4, lr=0.01), tmp_path, resume=True)


def test_the_command_goes_on_with_a_folder(cut: Callable[[str], str]) -> None:
    call(train, "--model", cut("half"), *QUICK, "--mode", "none", "--lr", "0.03", "--trust", "--out", "run")
    before = Path("run/slim/weights.safetensors").read_bytes()
    result = call(train, "--resume", "run", "--epochs", "2", "--json")
    values = json.loads(result.stdout)
    assert (values["epochs"], values["config"]["lr"], values["lengths"]) == (2, 0.03, [{"epochs": 1, "steps": 4}])
    assert "was to have 1 epochs and goes on to 2: from step 4 on the learning rate (cosine)" in result.stderr
    assert Path("run/slim/weights.safetensors").read_bytes() != before
    with pytest.raises(CheckpointError, match="is in epoch 2 already"):
        call(train, "--resume", "--out", "run", "--epochs", "1")
    wrong = call(train, "--resume", "run", "--out", "elsewhere")
    assert wrong.exit_code == 2
    assert "leave out --out elsewhere" in wrong.stderr
    Path("run/trained.pt").unlink()
    with pytest.raises(InputError, match="name the file that it began with, --model"):
        call(train, "--resume", "run")


def test_the_notes_of_a_trained_network_say_that_its_statistics_are_its_own(cut: Callable[[str], str]) -> None:
    call(train, "--model", cut("half.pt"), *QUICK, "--mode", "none", "--trust", "--out", "run")
    before, after = (netslim.notes.notes_of(path) for path in ("half.pt", "run/slim.pt"))
    assert before is not None
    assert before.warning
    assert after == replace(before, statistics=OWN)
