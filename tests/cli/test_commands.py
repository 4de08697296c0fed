"""`netslim convert, inspect, verify, extract, restore` from end to end on a small model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

import netslim

Run = Callable[..., Result]


def test_convert_tells_what_it_found(run: Run, source: str) -> None:
    result = run("convert", source, "--input-shape", "1,12,12")
    assert result.exit_code == 0, result.output
    for part in ("mymodel.py:Tiny", "groups", "at width 0.5", "frozen", "proof", "written to converted.pt"):
        assert part in result.stdout
    assert "\x1b" not in result.output
    assert all(line == line.rstrip() for line in result.stdout.splitlines())
    assert Path("converted.pt").is_file()


def test_convert_as_json(run: Run, source: str) -> None:
    result = run("convert", source, "--input-shape", "1,12,12", "-o", "out/net.pt", "--json")
    found = json.loads(result.stdout)
    assert found["source"] == "mymodel.py:Tiny"
    assert found["groups"] == 2
    assert found["proof"]["passed"] is True
    assert 0 < found["params"]["share"] < 1
    assert found["output"] == "out/net.pt"


def test_a_quick_conversion_says_so_in_every_command(run: Run, source: str) -> None:
    result = run("convert", source, "--input-shape", "1,12,12", "--quick")
    assert result.exit_code == 0, result.output
    assert "proof       NOT PROVED, only checked quickly: " in result.stdout
    assert "warning" not in result.stderr
    assert json.loads(run("convert", source, "--input-shape", "1,12,12", "--quick", "--json").stdout)["proof"]["quick"]
    for command in (
        ["inspect"],
        ["verify"],
        ["extract", "--width", "0.5", "-o", "slim.pt"],
        ["restore", "-o", "weights.pt"],
    ):
        opened = run(command[0], "converted.pt", *command[1:])
        assert opened.exit_code == 0, opened.output
        assert opened.stderr.count("warning: converted.pt is NOT PROVED, only checked quickly (convert it without") == 1
    assert run("verify", "converted.pt", "--original", source).exit_code == 0
    both = run("convert", source, "--input-shape", "1,12,12", "--quick", "--no-prove")
    assert both.exit_code == 2
    assert "--no-prove leaves out" in both.stderr


def test_convert_passes_arguments_and_weights(run: Run, source: str) -> None:
    result = run("convert", source, "--input-shape", "1,12,12", "--arg", "classes=3", "--entry", "Tiny", "--no-prove")
    assert result.exit_code == 0, result.output
    state = netslim.load("converted.pt").original_state_dict()
    assert state["head.weight"].shape == (3, 16)
    state["head.bias"] = torch.tensor([1.0, 2.0, 3.0])
    torch.save(state, "weights.pt")
    run("convert", source, "--input-shape", "1,12,12", "--arg", "classes=3", "--weights", "weights.pt", "--no-prove")
    assert netslim.load("converted.pt").original_state_dict()["head.bias"].tolist() == [1.0, 2.0, 3.0]


def test_the_converted_file_needs_no_source(run: Run, converted: str, source: str) -> None:
    Path(source).unlink()
    assert run("inspect", converted).exit_code == 0


@pytest.mark.parametrize("target", ["converted.pt", "mymodel.py"])
def test_inspect_shows_parts(run: Run, converted: str, target: str) -> None:
    shape = ["--input-shape", "1,12,12"] if target.endswith(".py") else []
    result = run("inspect", target, *shape, "--groups")
    assert "stem.weight[0]" in result.stdout
    assert "frozen" not in result.stdout
    found = json.loads(run("inspect", target, *shape, "--json").stdout)
    assert [group["size"] for group in found["groups"]] == [8, 8]
    assert found["regions"] == [""]
    assert {"groups", "blocks", "frozen", "refused_blocks", "specialised", "refusal"} <= set(found)


def test_inspect_says_why(run: Run, converted: str) -> None:
    assert run("inspect", converted, "--why", "head.weight").stdout.strip()
    unknown = run("inspect", converted, "--why", "nothing.weight")
    assert unknown.exit_code == 1
    assert "nothing.weight" in unknown.stderr


def test_inspect_says_what_ties_two_names(run: Run, converted: str) -> None:
    found = run("inspect", converted, "--why", "stem.weight.0, head.weight", "--json")
    assert found.exit_code == 0, found.output
    why = json.loads(found.stdout)["why"]
    assert why["names"] == ["stem.weight.0", "head.weight"]
    assert why["text"] in run("inspect", converted, "--why", "stem.weight.0,head.weight").stdout.replace("\n", " ")
    apart = run("inspect", converted, "--why", "stem.weight.0", "--why", "nothing")
    assert apart.exit_code == 1
    assert "no parameter, module or group 'nothing'" in apart.stderr
    for bad in ("a,b,c", "a,", ","):
        assert run("inspect", converted, "--why", bad).exit_code == 2


def test_inspect_draws(run: Run, converted: str) -> None:
    pytest.importorskip("matplotlib")
    assert run("inspect", converted, "--plot", "groups.png").exit_code == 0
    assert Path("groups.png").read_bytes().startswith(b"\x89PNG")
    bad = run("inspect", converted, "--plot", "groups.doc")
    assert bad.exit_code == 1
    assert "the name must end in one of" in bad.stderr


def test_inspect_writes_a_page(run: Run, converted: str, source: str) -> None:
    done = run("inspect", converted, "--html", "out/page.html", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["groups"]
    assert "drawn in out/page.html" in done.stderr
    assert Path("out/page.html").read_text().startswith("<!doctype html>")
    assert run("inspect", source, "--input-shape", "1,12,12", "--html", "second.html").exit_code == 0
    bad = run("inspect", converted, "--html", "out/page.html/page.html")
    assert bad.exit_code == 1
    assert "cannot write out/page.html/page.html" in bad.stderr


def test_verify_proves(run: Run, converted: str) -> None:
    result = run("verify", converted)
    assert result.exit_code == 0, result.output
    found = json.loads(run("verify", converted, "--json").stdout)
    assert found["passed"] is True
    assert found["cases"]


def test_verify_compares_with_the_original_and_its_weights_do_not_matter(run: Run, converted: str, source: str) -> None:
    assert run("verify", converted, "--original", source).exit_code == 0
    assert run("verify", source, "--input-shape", "1,12,12").exit_code == 0
    text = Path(source).read_text()
    Path("other.py").write_text(text.replace("F.relu", "torch.tanh"))
    other = run("verify", converted, "--original", "other.py", "--entry", "Tiny")
    assert other.exit_code == 1
    assert "the full network differs from the model: the output in eval mode on 1x1x12x12" in other.stderr
    smaller = run("verify", converted, "--original", source, "--arg", "classes=3")
    assert smaller.exit_code == 1
    assert "is not the model that was converted" in smaller.stderr
    assert run("verify", source, "--original", source, "--input-shape", "1,12,12").exit_code == 2


def test_extract_writes_a_plain_network(run: Run, converted: str) -> None:
    result = run("extract", converted, "--width", "0.5", "-o", "slim.pt", "--json")
    assert result.exit_code == 0, result.output
    model = torch.load("slim.pt", weights_only=False)
    assert model(torch.zeros(1, 1, 12, 12)).shape == (1, 10)
    assert sum(p.numel() for p in model.parameters()) == json.loads(result.stdout)["params"]
    assert not any(type(module).__module__.startswith("netslim") for module in model.modules())


def test_extract_to_onnx_says_what_is_missing(run: Run, converted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    result = run("extract", converted, "--width", "0.5", "-o", "slim.onnx")
    assert result.exit_code == 1
    assert "pip install onnxscript (or, in a clone of the repository, pip install '.[onnx]')" in result.stderr


def test_restore_writes_the_original_weights(run: Run, converted: str) -> None:
    result = run("restore", converted, "-o", "weights.pt")
    assert result.exit_code == 0, result.output
    state = torch.load("weights.pt", weights_only=True)
    assert list(state)[:2] == ["stem.weight", "stem.bias"]
    assert all(torch.equal(state[name], value) for name, value in netslim.load(converted).state_dict().items())


def test_a_guessed_shape_is_said(run: Run, source: str) -> None:
    result = run("convert", source)
    assert result.exit_code == 1
    assert "note: no --input-shape given; using 3,224,224" in result.stderr
    assert "The input shape was a guess: say it with --input-shape." in result.stderr
