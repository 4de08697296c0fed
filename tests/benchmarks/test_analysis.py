"""What benchmarks/analysis.py says of the times that it measures."""

from __future__ import annotations

from typing import Any

import analysis


def row(model: str, **times: Any) -> dict[str, Any]:
    return {"model": model, "params": 2.5e6, "rounds": 3, "measured": "a machine, a day", **times}


ROWS = [
    row("torchvision:a", analysis=0.5, graph=0.25, **{"graph, groups": 1.0}),
    row("timm:b", analysis=3.0, **{"graph": None, "graph, error": "KeyError: 'x'", "failure": "TimeLimit: 60 s"}),
]


def test_one_classifier_of_each_module_is_measured() -> None:
    found = analysis.sources(())
    assert {"torchvision:densenet121", "torchvision:alexnet", "timm:gmlp_ti16_224"} <= set(found)
    assert "torchvision:densenet201" not in found
    assert not any("rcnn" in name or "raft" in name or "fcn" in name for name in analysis.sources((), every=True))
    assert {"torchvision:densenet201", *found} <= set(analysis.sources((), every=True))
    assert analysis.sources(("vgg11", "timm:b")) == ["torchvision:vgg11", "timm:b"]


def test_ratios_are_of_models_where_both_run_and_failures_stand_in_the_table() -> None:
    assert analysis.lines(ROWS)[1:] == [
        ["a", "2.5", "0.50", "0.25", "1.00", "2.0", "0.5"],
        ["timm:b", "2.5", "3.00", "KeyError", "TimeLimit", "", ""],
    ]
    said = analysis.summary(ROWS)
    assert "Of 2 models each runs on: analysis 2, graph 1, graph, groups 1." in said
    assert "of the time of graph; it is quicker on 0 of 1." in said
    assert "of the time of graph, groups; it is quicker on 1 of 1." in said
    page = analysis.markdown(ROWS, 3, "python benchmarks/analysis.py")
    assert "    python benchmarks/analysis.py\n" in page
    assert "On a machine, a day;" in page
