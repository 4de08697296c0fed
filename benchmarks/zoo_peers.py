"""The same models through Torch-Pruning and NVIDIA ModelOpt, with everything that they find elastic at its smallest.

Torch-Pruning   DependencyGraph: build and list all groups (timed); then every prunable group is pruned to half
ModelOpt        nas.convert in the autonas mode (timed), channel counts of any divisor; then the smallest sub-network

A model counts as converted when it still runs after that; whether it computes the right thing, nobody checks. The
layers that make the model's own outputs are left out for every tool.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from zoo_limits import Fields, Job, Send
from zoo_models import Entry
from zoo_netslim import positional, prepared
from zoo_shares import layers, output_layers

import netslim

PEERS = {"torch-pruning": "torch_pruning", "nvidia-modelopt": "modelopt"}
"""Packages on PyPI, and the modules that they bring."""


def missing() -> list[str]:
    """The peers that are not installed."""
    return [package for package, module in PEERS.items() if importlib.util.find_spec(module) is None]


def peer_job(peer: str, entry: Entry, reduced: bool) -> Job:
    """The measurement of one model with one of the peers, for a process of its own."""

    def job(send: Send) -> None:
        model, inputs = prepared(entry, reduced, send)
        model.eval()
        send({"stage": "which layers make outputs"})
        fixed = _outputs(model, inputs)
        send({"stage": "convert"})
        network = _SHRINK[peer](model, positional(inputs), fixed, send)
        send({"stage": "run"})
        with torch.no_grad():
            network.eval()(*positional(inputs))
        send({"converted": True, "stage": ""})

    return job


def _outputs(model: nn.Module, inputs: Any) -> set[str]:
    """Empty where netslim cannot tell."""
    try:
        return output_layers(netslim.analyse(model, inputs)[0], model)
    except netslim.NetslimError:
        return set()


def counted(sizes: dict[str, int], fixed: set[str], is_elastic: Callable[[str], bool]) -> Fields:
    """Output channels of the layers that a tool can shrink, of all but the model's own outputs."""
    inner = {path: size for path, size in sizes.items() if path not in fixed}
    elastic, outputs = sum(size for path, size in inner.items() if is_elastic(path)), sum(inner.values())
    return {"outputs": outputs, "elastic_outputs": elastic, "elastic_share": elastic / outputs if outputs else None}


def _torch_pruning(model: nn.Module, inputs: tuple[Any, ...], fixed: set[str], send: Send) -> nn.Module:
    import torch_pruning

    ignored = [model.get_submodule(path) for path in fixed]
    sizes = {layer.path: layer.size for layer in layers(model)}
    start = time.process_time()
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=inputs)
    groups = len(list(graph.get_all_groups(ignored_layers=ignored)))
    send({"convert_s": time.process_time() - start, "groups": groups, "stage": "prune every group to half"})
    for group in graph.get_all_groups(ignored_layers=ignored):
        root, prune = group[0].dep.target.module, group[0].dep.handler
        count = graph.get_out_channels(root)
        half = graph.get_pruning_group(root, prune, list(range(max(1, count // 2), count)))
        if count > 1 and graph.check_pruning_group(half):
            half.prune()
    left = {layer.path: layer.size for layer in layers(model)}
    send(counted(sizes, fixed, lambda path: left.get(path, 0) < sizes[path]))
    return model


def _modelopt(model: nn.Module, _inputs: tuple[Any, ...], fixed: set[str], send: Send) -> nn.Module:
    import modelopt.torch.nas as nas
    from modelopt.torch.nas.utils import sample

    sizes = {layer.path: layer.size for layer in layers(model)}
    start = time.process_time()
    network = nas.convert(model, [("autonas", _any_divisor())])
    send({"convert_s": time.process_time() - start, "stage": "the smallest sub-network"})
    modules = dict(network.named_modules())
    send(counted(sizes, fixed, lambda path: _choices(modules[path]) > 1))
    sample(network, min)
    return network


def _any_divisor() -> dict[str, Any]:
    """ModelOpt's default rules, which want multiples of 32, for every number of channels."""
    from modelopt.torch.nas.autonas import AutoNASConfig

    return {
        kind: {
            pattern: {name: 1 if name.endswith("divisor") else value for name, value in (rule or {}).items()}
            for pattern, rule in rules.items()
        }
        for kind, rules in AutoNASConfig().model_dump().items()
    }


def _choices(module: nn.Module) -> int:
    """How many output widths ModelOpt can give a layer."""
    hparams: Any = getattr(module, "named_hparams", dict)
    named = dict(hparams())
    found = named.get("out_channels") or named.get("out_features")
    return len(found.choices) if found is not None else 1


_SHRINK = {"torch-pruning": _torch_pruning, "nvidia-modelopt": _modelopt}
