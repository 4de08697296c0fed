"""Tables and data of a report; the network is a stand-in that carries only what is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

import netslim
from netslim import report
from netslim.ir.plan import Block, Frozen, Group, Slot
from netslim.ir.proof import Case, Proof
from netslim.net.runtime import KEY, runtime

SLOTS = tuple(Slot(name, 0) for name in ("a.weight", "b.weight", "c.weight", "d.weight", "e.weight"))
PROOF = Proof((Case("all at [0.5]", 0.25, 0.5, False),), ("all at [0.5] differs",))


@pytest.fixture
def net() -> Any:
    plan = SimpleNamespace(
        refused=(),
        specialised=(),
        refusal="",
        regions={"": None},
        groups=(Group("a.weight[0]", 8, SLOTS), Group("f.weight[0]", 4, (Slot("f.weight", 0),))),
        frozen=(
            Frozen(SLOTS[:2], 8, "no rule for [this]", "aten.unique", "mymodel.py:12 in forward"),
            Frozen(SLOTS[2:3], 8, "no rule for [this]", "aten.unique", "mymodel.py:12 in forward"),
            Frozen((Slot("fc.bias", 0),), 10, "model output", "", ""),
        ),
        blocks=(Block("layer1.0.add", 1234, "mymodel.py:30"),),
    )
    return SimpleNamespace(**{KEY: SimpleNamespace(plan=plan, proof=PROOF)})


def text(what: Any) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_a_group_shows_its_first_places(net: Any) -> None:
    assert "a.weight[0], b.weight[0], c.weight[0] and 2 more" in text(report.groups_table(net))


def test_equal_reasons_are_one_row(net: Any) -> None:
    shown = text(report.frozen_table(runtime(net).plan.frozen))
    assert shown.count("no rule for [this]") == 1
    assert "mymodel.py:12 in forward" in shown
    assert "a.weight[0], b.weight[0], c.weight[0]" in shown


def test_a_long_list_says_how_to_see_the_rest(net: Any) -> None:
    assert "... and 1 more: netslim inspect --frozen" in text(report.frozen_table(runtime(net).plan.frozen, limit=1))


def test_nothing_found_is_said(net: Any) -> None:
    cast(Any, runtime(net).plan).blocks = ()
    assert text(report.blocks_table(net)) == "no block can be skipped\n"
    assert text(report.frozen_table(())) == "nothing is frozen\n"


def test_a_failed_proof_cannot_be_overlooked() -> None:
    shown = text(report.proof_table(PROOF))
    assert "WRONG" in shown
    assert "all at [0.5]" in shown
    assert "DIFFER" in shown


def test_data_has_the_same_as_the_tables(net: Any) -> None:
    found = report.inspection_dict(net, ["groups", "frozen"])
    assert {"groups", "frozen"} <= set(found)
    assert "blocks" not in found
    assert found["groups"][1] == {"name": "f.weight[0]", "size": 4, "slots": [["f.weight", 0]]}
    assert found["frozen"][2]["reason"] == "model output"


def test_stages_without_a_terminal_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with report.stages() as progress:
        for stage, done in (("trace", 0.0), ("trace", 0.5), ("[prove]", 0.0)):
            progress(stage, done)
    assert capsys.readouterr().err == "trace ...\n[prove] ...\n"


def test_the_package_offers_what_is_documented() -> None:
    assert {"convert", "verify", "save", "load", "SlimNet"} <= set(dir(netslim))
