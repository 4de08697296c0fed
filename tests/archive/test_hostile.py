"""Files that somebody wrote on purpose, their sums right: none of them runs code, and each is refused in a sentence."""

from __future__ import annotations

import functools
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.errors import ArchiveError
from tests.archive.nets import IMAGES, edited, entry, first, good, instead, opened, program, ref, signed, step


def refused(path: Path) -> str:
    with pytest.raises(ArchiveError) as caught:
        netslim.load(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def test_the_file_that_all_others_are_made_from_loads() -> None:
    assert netslim.verify(netslim.load(good())).passed


def test_a_document_written_anew_by_hand_is_the_same_network(tmp_path: Path) -> None:
    """The edits below are refused for what they do, not for having been made."""
    loaded = netslim.load(edited(tmp_path, lambda _document: None))
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES)["logits"], netslim.load(good())(IMAGES)["logits"])


def test_ties_in_a_circle_are_followed_once(tmp_path: Path) -> None:
    def turned(document: Any) -> None:
        ties = document["plan"]["ties"][4]
        ties += [[part, whole, *rest] for whole, part, *rest in ties if part < len(document["plan"]["ties"][1])
                 and document["plan"]["ties"][1][whole] == document["plan"]["ties"][1][part]]  # fmt: skip

    loaded, first = netslim.load(edited(tmp_path, turned)), netslim.load(good())
    for name in first.state_dict():
        tied, wanted = (
            [[chain.last for chain in part.ties] for part in net.why(name).parts] for net in (loaded, first)
        )
        assert [set(each) for each in tied] == [set(each) for each in wanted]


# ---------------------------------------------------------------------------------------------------- code


def wide(word: str) -> str:
    """The letters that Python's parser reads as these, though they are others."""
    return "_＿" + word[2:] if word[:2] == "__" else "".join(chr(ord(c) + 0xFEE0) for c in word)


CALL = next(i for i, found in enumerate(program(opened(good())[0])) if found[1] == "call")

CODE = {
    "a method of a layer, where a block is skipped": lambda d, _mark: instead(d).insert(
        0, step("a", "module", "stem.forward.__globals__.get", "__builtins__")
    ),
    "a layer, where a block is skipped": lambda d, _mark: instead(d).insert(0, step("a", "module", "stem", ref("x"))),
    "a parameter, where a block is skipped": lambda d, _mark: instead(d).insert(0, step("a", "param", "shift")),
    "an output, where a block is skipped": lambda d, _mark: instead(d).insert(0, step("a", "output", "", ref("x"))),
    "an input, where a block is skipped": lambda d, _mark: instead(d).insert(0, step("a", "input", "y")),
    "source for the number of a cut": lambda d, mark: first(d, "param")[3].append(f"0]) or open({mark!r}, 'w') or (["),
    "an operator that maps files": lambda d, mark: program(d).insert(
        CALL, step("a", "call", "torch.ops.aten.from_file.default", mark, True, 16)
    ),
    "the same where a block is skipped": lambda d, mark: instead(d).insert(
        0, step("a", "call", "torch.ops.aten.from_file.default", mark, True, 16)
    ),
    "torch's own way to it": lambda d, mark: program(d).insert(
        CALL, step("a", "call", "torch.from_file", mark, True, 16)
    ),
    "a function of the system": lambda d, _mark: first(d, "call").__setitem__(2, "os.system"),
    "a method that takes functions": lambda d, _mark: first(d, "call").__setitem__(2, "torch.Tensor.apply_"),
    "a hook": lambda d, _mark: first(d, "call").__setitem__(2, "torch.Tensor.register_hook"),
    "a function that is followed": lambda d, _mark: first(d, "call").__setitem__(2, "through[0]"),
    "a step of another kind": lambda d, _mark: first(d, "call").__setitem__(1, "exec"),
    "an argument's name": lambda d, mark: first(d, "call")[4].update({f"a=open({mark!r}, 'w'), b": 1}),
    "an argument's name in wide letters": lambda d, _mark: first(d, "call")[4].update({wide("alpha"): 1}),
    "a value that no step makes": lambda d, _mark: program(d)[-1].__setitem__(3, [ref("open")]),
    "such a value where a block is skipped": lambda d, _mark: instead(d).append(
        step("a", "call", "torch.Tensor.clone", ref("open"))
    ),
    "a path in wide letters": lambda d, _mark: first(d, "module").__setitem__(2, "stem." + wide("__init__")),
    "an attribute for a module": lambda d, _mark: first(d, "module").__setitem__(2, "stem.__class__"),
    "a class of another package": lambda d, _mark: entry(d, "stem").__setitem__(2, "subprocess.Popen"),
    "a class of netslim's": lambda d, _mark: entry(d, "stem").__setitem__(2, "netslim.net.slimnet.SlimNet"),
    "a class of the model's own": lambda d, _mark: entry(d, "stem").__setitem__(1, "python"),
    "a hook among the settings": lambda d, _mark: entry(d, "stem")[4].update(_forward_hooks=["dict", []]),
    "a method among the settings": lambda d, _mark: entry(d, "stem")[4].update(_conv_forward="x"),
    "a forward among the settings": lambda d, _mark: entry(d, "stem")[4].update(forward="x"),
    "a setting of another class": lambda d, _mark: entry(d, "stem")[4].update(num_features=8),
    "the name of an argument": lambda d, mark: [
        inputs[1].__setitem__(0, [f"x):\r  open({mark!r}, 'w')\rdef g(self, x):\r  #", ["tuple", [inputs[1][0][1]]]])
        for inputs in (d["plan"]["inputs"], d["plan"]["regions"][0][1])
    ],
    "a network without a program": lambda d, _mark: d["plan"].update(regions=[], blocks=[]),
    "rules that it does not have": lambda d, _mark: d["rules"].append("aten.foo"),
    "names of a structure": lambda d, mark: program(d)[-1].__setitem__(
        3, [["struct", "Out", [f"a, b=open({mark!r}, 'w')"], [ref(program(d)[-2][0])]]]
    ),
}


@pytest.mark.parametrize("what", CODE)
def test_a_file_runs_no_code(what: str, tmp_path: Path) -> None:
    mark = tmp_path / "payload"
    path = edited(tmp_path, lambda document: CODE[what](document, str(mark)))
    assert "damaged" in refused(path) or "trust" in refused(path)
    assert not mark.exists()


def test_names_of_arguments_stay_out_of_extracted_graphs() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, slice: tuple[Tensor, Tensor], größe: Tensor) -> Tensor:  # noqa: A002
            return self.conv(slice[0] + slice[1]).mean((2, 3)) + größe

    inputs = (IMAGES, IMAGES), torch.ones(2, 8)
    net = netslim.convert(Nested(), inputs, prove=False).eval()
    with torch.no_grad():
        assert torch.equal(net.extract()(*inputs), net(*inputs))


def test_names_in_a_file_never_stand_in_the_source(tmp_path: Path) -> None:
    """Steps, children and parameters of any name load, run and print as numbers."""
    names = ["eval", "import", "__class__", wide("open"), "x; raise SystemExit", "self", "sizes", "v3", "größe", "None"]

    def rename(document: Any) -> None:
        steps = program(document) + document["plan"]["regions"][0][2][1]
        old = {found[0]: names[i % len(names)] + str(i // len(names) or "") for i, found in enumerate(steps[:40])}
        swap = {found[0]: old.get(found[0], found[0]) for found in steps}

        def renamed(value: Any) -> Any:
            if isinstance(value, list) and value[:1] == ["ref"]:
                return ["ref", swap[value[1]]]
            if isinstance(value, list):
                return [renamed(item) for item in value]
            return {k: renamed(v) for k, v in value.items()} if isinstance(value, dict) else value

        for found in steps:
            found[0], found[3], found[4] = swap[found[0]], renamed(found[3]), renamed(found[4])
        for block in document["plan"]["blocks"]:
            for skip in block[4]:
                skip[0], skip[1], skip[4] = swap[skip[0]], [swap[n] for n in skip[1]], [swap[n] for n in skip[4]]
                skip[3] = swap.get(skip[3], skip[3])
                for found in skip[2]:
                    found[3] = renamed(found[3])

    loaded = netslim.load(edited(tmp_path, rename))
    with torch.no_grad():
        for made in (loaded, loaded.extract()):
            assert torch.equal(made(IMAGES)["logits"], netslim.load(good())(IMAGES)["logits"])


@pytest.mark.parametrize("name", ["x:\n raise SystemExit\nclass y", "print", "__x", "größe", "self", "forward", ""])
def test_a_models_name_stays_out_of_the_source_of_what_is_extracted(name: str, tmp_path: Path) -> None:
    small = netslim.load(edited(tmp_path, lambda document: document["plan"].update(model=name))).extract(0.5)
    assert type(small).__name__ == "Extracted"
    assert "logits" in small(IMAGES)


def test_a_class_of_an_output_is_looked_up_and_never_imported(tmp_path: Path) -> None:
    def edit(module: str) -> Any:
        def change(document: Any) -> None:
            last = program(document)[-1]
            last[3] = [["struct", "Zen", ["a"], [ref(program(document)[-2][0])], module]]

        return change

    sys.modules.pop("this", None)
    for module in ("this", "sys", "os.path; raise SystemExit", "netslim"):
        net = netslim.load(edited(tmp_path, edit(module)))
        for made in (net, net.extract(0.5)):
            assert type(made.train()(IMAGES)).__name__ in ("Zen", "Output0")
    assert "this" not in sys.modules


def test_a_place_in_the_source_stays_a_comment(tmp_path: Path) -> None:
    def edit(document: Any) -> None:
        for found in program(document):
            found[5] = "net.py:3\n\r\x0b\x0c\x85\u2028    raise SystemExit # größe"

    netslim.load(edited(tmp_path, edit)).train()(IMAGES)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    class Opens:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "payload"), "w")

    for name, write in (("pickle", functools.partial(pickle.dumps, protocol=2)), ("zip", None)):
        path = tmp_path / name
        if write:
            path.write_bytes(write({"format": "netslim", "more": Opens()}))
        else:
            torch.save({"format": "netslim", "more": Opens()}, path)
        assert "torch.save" in refused(path)
        assert not (tmp_path / "payload").exists()


# ------------------------------------------------------------------------------------------- contents that differ


def drop(document: Any, tensors: Any) -> None:
    del tensors["head.weight"]


def add(document: Any, tensors: Any) -> None:
    tensors["extra"] = torch.zeros(3)


def another_shape(document: Any, tensors: Any) -> None:
    tensors["stem.weight"] = torch.randn(16, 3, 3, 3)


def integers(document: Any, tensors: Any) -> None:
    tensors["stem.weight"] = tensors["stem.weight"].long()


def double(document: Any, tensors: Any) -> None:
    tensors["stem.weight"] = tensors["stem.weight"].double()


def half(document: Any, tensors: Any) -> None:
    for name in ("head.weight", "head.bias"):
        tensors[name] = tensors[name].half()


def long_statistics(document: Any, tensors: Any) -> None:
    tensors["norm.running_mean"] = torch.zeros(9)


DIFFERENT = [drop, add, another_shape, integers, double, half, long_statistics]


@pytest.mark.parametrize("edit", DIFFERENT, ids=lambda edit: edit.__name__)
def test_tensors_that_are_not_those_of_the_plan(edit: Any, tmp_path: Path) -> None:
    assert "damaged" in refused(edited(tmp_path, edit))


def swapped_parts(document: Any) -> None:
    """The sides of the concatenation in the other order: every size is right, and every index wrong."""
    found = next(layout for layout in document["plan"]["distinct"] if layout[0] == "concat")
    found[1].reverse()


def swapped_groups(document: Any) -> None:
    """The channels of one group counted as another's of the same size."""
    layouts, distinct = document["plan"]["layouts"], document["plan"]["distinct"]
    inner, outer = layouts["body.0.weight"][0], layouts["stem.weight"][0]
    assert distinct[inner][0] == "group"
    layouts["body.0.weight"][0], layouts["body.0.weight"][1] = outer, inner


def a_block_inside_out(document: Any) -> None:
    skip = document["plan"]["blocks"][0][4][0]
    skip[3] = skip[1][0]


def other_group(ties: Any) -> None:
    """One of the places that the first tie ties is the first one of another layout instead."""
    layouts, tie = ties[1], ties[4][0]
    tie[0] = next(i for i, layout in enumerate(layouts) if layout != layouts[tie[0]] and i < len(ties[0]))


def elastic(plan: Any) -> int:
    """A tied dimension that is all of one group."""
    return next(i for i, layout in enumerate(plan["ties"][1]) if plan["distinct"][layout][0] == "group")


UNFIT = {
    "a group of more channels": lambda d: d["plan"]["groups"][0].__setitem__(1, 16),
    "a group of one channel": lambda d: d["plan"]["groups"][0].__setitem__(1, 1),
    "a layout less": lambda d: d["plan"]["layouts"].pop("stem.weight"),
    "parts of a concatenation swapped": swapped_parts,
    "two groups exchanged": swapped_groups,
    "a block that ends nowhere": lambda d: d["plan"]["blocks"][0][4][0].__setitem__(0, "nothing"),
    "a block whose body is not skipped": lambda d: d["plan"]["blocks"][0][4][0][1].clear(),
    "a block that is replaced by its body": a_block_inside_out,
    "a block in no region": lambda d: d["plan"]["blocks"][0].__setitem__(3, "body"),
    "an activation for a convolution": lambda d: entry(d, "stem").__setitem__(2, "torch.nn.modules.activation.ReLU"),
    "a text for a stride": lambda d: entry(d, "stem")[4].update(stride="2"),
    "other groups": lambda d: entry(d, "stem")[4].update(groups=3),
    "a child without a parent": lambda d: d["modules"].append(["no.where", "tree", "", False, {}, [], []]),
    "a child twice": lambda d: d["modules"].append(entry(d, "stem")),
    "a child that is its own parent": lambda d: d["modules"].append(["body.x", "same", "body", False, {}, [], []]),
    "a step twice": lambda d: program(d).insert(CALL, program(d)[CALL]),
    "no output": lambda d: program(d).pop(),
    "a program that calls itself": lambda d: first(d, "module").__setitem__(2, ""),
    "a program that calls a container": lambda d: first(d, "module").__setitem__(2, "body"),
    "two outputs": lambda d: program(d).append(program(d)[-1]),
    "a size beyond its layout": lambda d: d["plan"]["sizes"][0].__setitem__(1, 99),
    "a size of another layout": lambda d: d["plan"]["sizes"][0].__setitem__(0, d["plan"]["layouts"]["head.weight"][0]),
    "a field less": lambda d: d["plan"].pop("groups"),
    "a field more": lambda d: d["plan"].update(more=1),
    "an input of another rank": lambda d: [
        inputs[1][0][1].__setitem__(1, [2, 3, 8]) for inputs in (d["plan"]["inputs"], d["plan"]["regions"][0][1])
    ],
    "an input less": lambda d: d["plan"]["regions"][0][1][1].clear(),
    "a constant of a method's name": lambda d, t: [
        t.update({"_lifted.forward": torch.zeros(2)}),
        d["constants"].append("_lifted.forward"),
    ],
    "a module called training": lambda d: d["modules"].append(["training", "tree", "", False, {}, [], []]),
    "a module that is all of the network": lambda d: d["modules"].append(["x", "same", "", False, {}, [], []]),
    "two modules within each other": lambda d: d["modules"].extend(
        [[p, "tree", "", False, {}, [], []] for p in "ab"]
        + [["a.x", "same", "b", False, {}, [], []], ["b.y", "same", "a", False, {}, [], []]]
    ),
    "a setting that is no number": lambda d: entry(d, "norm")[4].update(eps=["float", "nan"]),
    "an output that is no tensor": lambda d: [steps[-1].__setitem__(3, [5]) for steps in d["plan"]["regions"][0][2]],
    "two names of a structure that Python reads as one": lambda d: program(d)[-1].__setitem__(
        3, [["struct", "Out", ["a", "\uff41"], [ref(program(d)[-2][0])] * 2]]
    ),
    "a group's name for the terminal": lambda d: d["plan"]["groups"][0].__setitem__(0, "a\x1b[31m"),
    "a tie to nowhere": lambda d: d["plan"]["ties"][4][0].__setitem__(1, 1 << 20),
    "a tie from nowhere": lambda d: d["plan"]["ties"][4][0].__setitem__(0, 1 << 20),
    "a tie before the first": lambda d: d["plan"]["ties"][4][0].__setitem__(0, -1),
    "a tie of no operator": lambda d: d["plan"]["ties"][4][0].__setitem__(4, 1 << 20),
    "a tie beyond its dimension": lambda d: d["plan"]["ties"][4][0].__setitem__(2, 1 << 20),
    "a tied dimension without a layout": lambda d: d["plan"]["ties"][1].__setitem__(-1, 1 << 20),
    "a tied dimension of no channels": lambda d: [
        d["plan"]["distinct"].append(["const", 0, None]),
        d["plan"]["ties"][1].append(len(d["plan"]["distinct"]) - 1),
        d["plan"]["ties"][4].append([0, len(d["plan"]["ties"][1]) - 1, 1, 1, 0]),
    ],
    "a tied place of another layout": lambda d: d["plan"]["ties"][1].__setitem__(0, d["plan"]["ties"][1][2]),
    "a tie of two groups": lambda d: other_group(d["plan"]["ties"]),
    "places of another order": lambda d: d["plan"]["ties"][0].reverse(),
    "ties of some places": lambda d: (
        [d["plan"]["ties"][i].__delitem__(slice(1, None)) for i in (0, 1)] + [d["plan"]["ties"][4].clear()]
    ),
    "a tie to nothing that is fixed": lambda d: d["plan"]["ties"][4].append(
        [elastic(d["plan"]), len(d["plan"]["ties"][1]), 0, 0, 0]
    ),
    "a role of nothing": lambda d: d["plan"]["ties"][5].append([1 << 20, "head"]),
    "a role that there is not": lambda d: d["plan"]["ties"][5].append([0, "tail"]),
    "a tied place that is not there": lambda d: d["plan"]["ties"][0][0].__setitem__(0, "nothing"),
    "a tied place twice": lambda d: d["plan"]["ties"][0].__setitem__(1, d["plan"]["ties"][0][0]),
    "a constant that is none": lambda d: d["constants"].append("stem.weight"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_contents_that_do_not_fit_together(what: str, tmp_path: Path) -> None:
    assert "damaged" in refused(edited(tmp_path, UNFIT[what]))


# ------------------------------------------------------------------------------------------- more than it should be


def doubled(leaf: Any, times: int) -> Any:
    for _ in range(times):
        leaf = ["tuple", [leaf, leaf]]
    return leaf


def deep(leaf: Any, times: int) -> Any:
    for _ in range(times):
        leaf = ["tuple", [leaf]]
    return leaf


def many_steps(document: Any) -> None:
    program(document)[CALL:CALL] = [step(f"k{i}", "call", "operator.neg", 1) for i in range(60_000)]


def before_the_end(document: Any, *steps: Any) -> None:
    program(document)[-1:-1] = list(steps)


def on_input(name: str, *args: Any, **kwargs: Any) -> Any:
    return lambda d: before_the_end(d, step("big", "call", name, ref(program(d)[0][0]), *args, **kwargs))


def tower(document: Any) -> None:
    """A number squared thirty times."""
    size = step("n0", "call", "torch.Tensor.size", ref(program(document)[0][0]), 2)
    squares = [step(f"n{i + 1}", "call", "operator.mul", ref(f"n{i}"), ref(f"n{i}")) for i in range(30)]
    before_the_end(document, size, *squares)


def to_the_power(exponent: Any) -> Any:
    return lambda d: before_the_end(
        d,
        step("n", "call", "torch.Tensor.size", ref(program(d)[0][0]), 2),
        step("m", "call", "operator.pow", ref("n"), exponent),
    )


def grown_group(document: Any) -> None:
    def grow(found: Any) -> None:
        if isinstance(found, list) and found[:1] == ["group"]:
            found[2] = 10**9
        elif isinstance(found, list):
            for item in found:
                grow(item)

    grow(document["plan"]["distinct"])
    for group in document["plan"]["groups"]:
        group[1] = 10**9


LARGE = {
    "a wide literal": lambda d: first(d, "call")[4].update(more=doubled(0, 16)),
    "a deep literal": lambda d: first(d, "call")[4].update(more=deep(0, 400)),
    "a layout that nothing has": lambda d: d["plan"]["distinct"].append(["const", 8, None]),
    "a wide layout": lambda d: d["plan"]["distinct"].append(["product", [["const", 2, None], ["const", 2, None]] * 40]),
    "a long text": lambda d: d["plan"].update(model="a" * 10**6),
    "a number of more than 64 bits": lambda d: first(d, "call")[4].update(more=1 << 70),
    "many steps": many_steps,
    "a group of a thousand million channels": grown_group,
    "an input of 10^10 pixels": lambda d: [
        inputs[1][0][1].__setitem__(1, [2, 3, 10**5, 10**5])
        for inputs in (d["plan"]["inputs"], d["plan"]["regions"][0][1])
    ],
    "a text times a number": lambda d: before_the_end(d, step("big", "call", "operator.mul", "a", 10**10)),
    "a list times a number": on_input("operator.mul", 10**10),
    "a number squared again and again": tower,
    "a number to a large power": to_the_power(10**12),
    "a number to the power of a size": to_the_power(["ref", "n"]),
    "a table of 10^11 numbers": lambda d: before_the_end(d, step("big", "call", "torch.arange", 10**11)),
    "zeros on the processor": lambda d: before_the_end(
        d, step("big", "call", "torch.zeros", 10**11, device=["device", "cpu"])
    ),
    "counts up to a large number": lambda d: before_the_end(
        d,
        step("some", "call", "torch.arange", 3),
        step("big", "call", "torch.bincount", ref("some"), minlength=10**11),
    ),
    "an image repeated": on_input("torch.Tensor.repeat", 10**4, 10**4, 10**3, 1),
    "an image made larger": on_input("torch.nn.functional.interpolate", ["tuple", [10**6, 10**6]]),
    "a padded image": on_input("torch.nn.functional.pad", ["tuple", [10**9, 10**9, 10**9, 10**9]]),
    "modules a thousand deep": lambda d: d["modules"].extend(
        [".".join("a" * (i + 1)), "tree", "", False, {}, [], []] for i in range(400)
    ),
    "modules doubled thirty times": lambda d: d["modules"].extend(
        found
        for i in range(30)
        for found in (
            [f"m{i}", "tree", "", False, {}, [], []],
            *([[f"m{i}.{n}", "same", f"m{i - 1}", False, {}, [], []] for n in "xy"] if i else []),
        )
    ),
    "a size of 2^28 pieces": lambda d: [
        d["plan"]["distinct"].append(["product", [["const", 1 << 28, None], ["group", 0, d["plan"]["groups"][0][1]]]]),
        d["plan"]["sizes"].append([len(d["plan"]["distinct"]) - 1, 0]),
    ],
    "many tables": lambda d: before_the_end(
        d, *(step(f"z{i}", "call", "torch.ones", ["tuple", [1 << 24]]) for i in range(9))
    ),
    "a number of repeats": lambda d: before_the_end(
        d,
        step("z", "call", "torch.tensor", ["list", [1 << 28]]),
        step("big", "call", "torch.repeat_interleave", ref("z")),
    ),
    "a count up to a value": lambda d: before_the_end(
        d, step("z", "call", "torch.tensor", ["list", [1 << 28]]), step("big", "call", "torch.bincount", ref("z"))
    ),
    "values of a large matrix": lambda d: before_the_end(
        d,
        step("z", "call", "torch.ones", ["tuple", [4096, 4096]]),
        step("big", "call", "torch.linalg.svdvals", ref("z")),
    ),
    "an iteration": on_input("torch.functional.svd_lowrank", 2, 10**9),
    "an index beyond the end": lambda d: before_the_end(
        d,
        step("z", "call", "torch.tensor", ["list", [999]]),
        step("big", "call", "torch.Tensor.index_select", ref(program(d)[0][0]), 1, ref("z")),
    ),
    "many inputs": lambda d: [
        inputs[1].extend([f"x{i}", ["input", [1 << 26], "float64", 0]] for i in range(40))
        for inputs in (d["plan"]["inputs"], d["plan"]["regions"][0][1])
    ],
    "many ties": lambda d: d["plan"]["ties"][4].extend(d["plan"]["ties"][4][:1] * (1 << 19)),
    "10^8 views": lambda d: before_the_end(
        d,
        step("wide", "call", "torch.Tensor.expand", ref(program(d)[0][0]), 10**8, -1, -1, -1, -1),
        step("big", "call", "torch.Tensor.unbind", ref("wide")),
    ),
}


@pytest.mark.parametrize("what", LARGE)
def test_limits_hold_before_memory_is_taken(what: str, tmp_path: Path) -> None:
    assert "damaged" in refused(edited(tmp_path, LARGE[what])) or what in ("many steps", "an iteration")


def test_a_small_zip_that_unpacks_to_much_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "converted.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x/data.pkl", bytes(1 << 24))
    assert "torch.save" in refused(path)


def test_a_header_may_not_be_longer_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "converted.pt"
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    assert "not a file of netslim's" in refused(path)


def test_other_files_of_safetensors_and_of_other_formats_are_said(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "weights.safetensors")
    assert "from elsewhere" in refused(tmp_path / "weights.safetensors")
    document, tensors = opened(good())
    assert "newer netslim" in refused(signed(tmp_path / "newer.pt", document, tensors, version=99))
    assert "convert the model again" in refused(signed(tmp_path / "older.pt", document, tensors, version=2))
    assert "'gradaug'" in refused(signed(tmp_path / "other.pt", document, tensors, kind="gradaug"))


def test_what_is_no_file_of_bytes_is_said(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refused(tmp_path / "pipe")
    assert "is a folder" in refused(tmp_path)
