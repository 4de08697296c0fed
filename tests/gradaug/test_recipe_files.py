"""A recipe is data: whatever stands in the file, reading it runs nothing, and a mistake is one sentence."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gradaug import recipes
from gradaug.config.settings import TrainConfig
from gradaug.recipes.reading import plain
from netslim.errors import InputError
from netslim_cli.main import gradaug

NETWORK = """
from pathlib import Path
from torch import nn

Path("ran").touch()

class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3)))
"""


def load(folder: Path, content: str | bytes) -> recipes.Recipe:
    path = folder / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return recipes.load(str(path))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-1", 0.1), ("5e-4", 5e-4), ("1E3", 1e3), (".5", 0.5), ("-2.", -2.0), ("-.inf", float("-inf")),
        ("3", 3), ("-4", -4), ("010", 10), ("0x10", 16), ("0o10", 8), ("~", None), ("", None), ("true", True),
        ("no", "no"), ("off", "off"), ("1:30", "1:30"), ("1_000", "1_000"), ("2020-01-01", "2020-01-01"),
        ("'3'", "3"), ("1e", "1e"), ("[1, 2e0]", [1, 2.0]), ("{1: x}", {"1": "x"}),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(written: str, value: Any) -> None:
    found = plain(f"key: {written}")["key"]
    assert (found, type(found)) == (value, type(value))


def test_numbers_reach_the_settings(tmp_path: Path) -> None:
    settings = load(tmp_path, "settings: {lr: 2e-1, weight_decay: 3e-4, warmup: 1, resolutions: [32, 28]}").settings
    assert settings == {"lr": 0.2, "weight_decay": 3e-4, "warmup": 1.0, "resolutions": (32, 28)}
    assert TrainConfig.from_dict(settings).lr == 0.2


LAUGHS = "a: &a [x, x]\n" + "\n".join(f"{new}: &{new} [*{old}, *{old}]" for old, new in itertools.pairwise("abcdefghi"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS, r"the alias \*a: write the value out in line 2"),
        ("a: &a [*a]", r"the alias \*a"),
        ("[" * 9000, "more than 10 levels"),
        ("{a: " * 9000, "more than 10 levels"),
        ("settings: !!python/object/apply:os.system ['touch ran']", "the tag 'tag:yaml.org,2002:python/object/apply"),
        ("settings: !!timestamp x", "the tag "),
        ("settings: {epochs: 3, epochs: 4}", "the key 'epochs' a second time in line 1"),
        ("settings: {? [1] : 4}", "a key that is no text"),
        ("settings: {epochs: 3}\n---\nsettings: {}", "another document"),
        ("settings:\n\tepochs: 3", "cannot start any token in line 2"),
        ("\0", "unacceptable character"),
        (b"about: caf\xe9", "is no text in UTF-8"),
        ("about: " + "x" * 70_000, "longer than 65,536 bytes"),
        ("", "is empty or no mapping"),
        ("[settings]", "is empty or no mapping"),
        ("about: 2020", "about must be a text, not a int"),
        ("settings: [epochs]", "settings are names with a value each"),
        ("settings: 0", "settings are names with a value each"),
        ("settings: {<<: {lr: 1}}", "unknown setting '<<'"),
        ("settings: {3: 4}", "unknown setting '3'"),
        ("settings: {epochs: }", "--epochs must be a whole number"),
        ("settings: {lr: 2020-01-01}", "--lr must be a number"),
        ("settings: {lr: .nan}", "--lr must be a positive number, not nan"),
        ("settings: {epochs: 1e1}", "--epochs must be a whole number .*, not 10.0"),
        (f"settings: {{epochs: {'9' * 5000}}}", "--epochs must be a whole number"),
        ("settings: {decay_norms: no}", "--decay-norms must be true or false, not 'no'"),
        ("model: torchvision:resnet50", "model needs source and input"),
        ("model: {source: x, input: [3], weights: x}", "model has the key 'weights'; it takes source, input, argu"),
        ("model: {source: 5, input: [3]}", "source must be a text"),
        ('model: {source: "a\\e[31m", input: [3]}', "source must be a text"),
        ("model: {source: x, input: 3}", "input must be the sizes of one input"),
        ("model: {source: x, input: [3, 0.5]}", "input must be the sizes of one input"),
        ("model: {source: x, input: [70000, 70000]}", "input must be the sizes of one input"),
        ("model: {source: x, input: [3], arguments: [5]}", "arguments are names with a value each"),
        ("model: {source: x, input: [3], arguments: {a: [.inf]}}", "inf is no argument of a network"),
        ("model: {source: x, input: [3], arguments: {a: 1e300}}", "is no argument of a network"),
        (f"model: {{source: x, input: [3], arguments: {{a: {[0] * 500}}}}}", "more than 200 values"),
    ],
)
def test_what_is_no_recipe_is_one_sentence(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"the recipe {tmp_path}")
    assert len(str(caught.value)) < 400


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    for name, message in {"pipe": "is not a file", "folder": "is not a file", "loop": "cannot be read"}.items():
        with pytest.raises(InputError, match=message):
            recipes.load(str(tmp_path / f"{name}.yaml"))


def test_a_mark_at_the_beginning_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbfsettings: {epochs: 3}").settings == {"epochs": 3}


@pytest.mark.parametrize(
    "source",
    [
        "torchvision:resnet18", "timm:resnet18", "timm:resnet50.a1_in1k", "gradaug.models:resnet20",
    ],
)  # fmt: skip
def test_libraries_networks_need_no_permission(source: str) -> None:
    recipes.Model(source, (3, 32, 32), {"num_classes": 5}).require_allowed(())


@pytest.mark.parametrize(
    "source",
    [
        "os:system", "mymodel.py", "./torchvision:resnet18", "torchvision:mine.py", "timm:mine.py", "torchvision:a.b",
        "gradaug.models:wide_resnet.torch.hub.load", "gradaug.models:__loader__", "gradaug.models.resnet_cifar:F",
        "torchvision.models:resnet18", "timm:hf-hub:somebody/net", "Torchvision:resnet18", "torchvision:resnet18\n",
        "ｔimm:resnet18", "timm:ｒesnet18", ":", "gradaug_models:resnet20", "", "gradaugXmodels:resnet20",
    ],
)  # fmt: skip
def test_any_other_source_is_code_that_the_person_must_name(source: str) -> None:
    model = recipes.Model(source, (3, 32, 32))
    for named in ((), ("os",), ("mymodel",)):
        with pytest.raises(InputError, match=r"whose code would be run: .* add --allow-code"):
            model.require_allowed(named)
    model.require_allowed((source,))


@pytest.mark.parametrize("name", ["weights", "weights_backbone", "pretrained", "pretrained_cfg", "checkpoint_path"])
def test_a_recipes_network_brings_no_weights(name: str) -> None:
    for source in ("torchvision:resnet18", "timm:resnet18"):
        with pytest.raises(InputError, match=f"has the argument {name}, which reads or fetches files"):
            recipes.Model(source, (3, 32, 32), {name: "evil.pt"}).require_allowed(())


def call(*arguments: str) -> Any:
    return CliRunner().invoke(gradaug, ["train", "--dry-run", "--mode", "none", *arguments])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipe_calls_nothing_of_its_own_choice(here: Path) -> None:
    Path("os.yaml").write_text("model: {source: 'os:system', input: [1, 8, 8], arguments: {command: touch ran}}")
    result = call("--recipe", "os.yaml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: the recipe's network is os:system, whose code would be run" in result.stderr
    assert not Path("ran").exists()


def test_code_that_is_named_on_the_command_line_runs(here: Path) -> None:
    Path("mymodel.py").write_text(NETWORK)
    Path("mine.yaml").write_text("model: {source: mymodel.py, input: [1, 8, 8], arguments: {classes: 10}}")
    refused = call("--recipe", "mine.yaml")
    assert refused.exit_code == 1
    assert refused.stderr.rstrip().endswith("add --allow-code mymodel.py")
    assert not Path("ran").exists()
    assert call("--recipe", "mine.yaml", "--allow-code", "mymodel.py").exit_code == 0
    assert Path("ran").exists()


def test_a_setting_that_is_no_text_can_be_printed(here: Path) -> None:
    Path("mine.yaml").write_text("model: {source: 'gradaug.models:resnet20', input: [3, 16, 16]}")
    shown = call("--recipe", "mine.yaml", "--data", os.fsdecode(b"folder:caf\xe9"))
    assert shown.exit_code == 0
    assert "folder:caf\\udce9" in shown.stdout


def test_the_command_to_convert_can_be_pasted() -> None:
    model = recipes.Model("a:b; rm -rf x", (3, 8, 8), {"name": "$(touch ran)"})
    assert model.command() == "netslim convert 'a:b; rm -rf x' --arg 'name=$(touch ran)' --input-shape 3,8,8"
