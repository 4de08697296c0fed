"""`netslim verify`."""

from __future__ import annotations

import json

import click

from .options import SourceOptions, json_option, open_net, source_options, trust_option


@click.command()
@click.argument("target", metavar="SOURCE|converted.pt")
@source_options
@trust_option
@json_option
def verify(target: str, trust: bool, as_json: bool, options: SourceOptions) -> None:
    """Prove that every sub-network equals the masked full network.

    Random widths of all groups are tried, then, where blocks can be skipped, random widths and depths. Exit code 1 when
    one disagrees.
    """
    net = open_net(target, options, trust)
    import netslim
    from netslim.errors import ProofError
    from netslim.report import proof_dict, proof_table, say

    proof = netslim.verify(net)
    if as_json:
        click.echo(json.dumps(proof_dict(proof), indent=2))
    else:
        say(proof_table(proof))
    if not proof.passed:
        raise ProofError(f"{target} is not right: {'; '.join(proof.failures[:3])}.")
