"""`netslim verify`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from .options import (
    SourceOptions,
    convert_loaded,
    json_option,
    load_model,
    open_net,
    source_options,
    trust_option,
)

if TYPE_CHECKING:
    from torch import nn

    from netslim import SlimNet


@click.command()
@click.argument("target", metavar="SOURCE|converted.pt")
@click.option("--original", metavar="SOURCE", help="Also compare the full network of converted.pt with this model.")
@source_options
@trust_option
@json_option
def verify(target: str, original: str | None, trust: bool, as_json: bool, options: SourceOptions) -> None:
    """Prove that every sub-network equals the masked full network, and the full network the model.

    Random widths of all groups are tried, then, where blocks can be skipped, random widths and depths. The full network
    is compared with SOURCE, or with --original: outputs, gradients and buffers, in evaluation and training. Exit code 1
    when anything disagrees.
    """
    net, model = _opened(target, original, options, trust)
    import netslim
    from netslim.errors import ProofError
    from netslim.report import proof_dict, proof_table, say

    proof = netslim.verify(net, model)
    if as_json:
        click.echo(json.dumps(proof_dict(proof), indent=2))
    else:
        say(proof_table(proof))
    if not proof.passed:
        raise ProofError(f"{target} is not right: {'; '.join(proof.failures[:3])}.")


def _opened(target: str, original: str | None, options: SourceOptions, trust: bool) -> tuple[SlimNet, nn.Module | None]:
    """The network, and the model that it is to be compared with. With --original, the options describe that."""
    from netslim.source.spec import is_source

    if is_source(target):
        if original is not None:
            raise click.UsageError("--original is for converted.pt: a SOURCE is compared with itself.")
        loaded = load_model(target, options)
        return convert_loaded(loaded, options, prove=True), loaded.model
    if original is None:
        return open_net(target, options, trust), None
    about = SourceOptions(options.entry, options.args, options.weights, ())
    rest = replace(options, entry=None, args=(), weights=None)
    return open_net(target, rest, trust), load_model(original, about).model
