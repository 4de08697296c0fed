"""`netslim extract`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import WidthType, json_option, trust_option

SUFFIXES = (".pt", ".pth", ".onnx")


@click.command()
@click.argument("archive", metavar="converted.pt")
@click.option("--width", type=WidthType(), required=True, help="Share of the channels to keep, in (0, 1].")
@click.option("--depth", multiple=True, metavar="BLOCK", help="Leave out this block; repeat.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="slim.pt or slim.onnx.")
@trust_option
@json_option
def extract(archive: str, width: float, depth: tuple[str, ...], output: Path, trust: bool, as_json: bool) -> None:
    """Cut a plain, smaller network out of a converted one.

    A .pt file holds the whole module: it needs no netslim, and opens with torch.load(FILE, weights_only=False). A .onnx
    file takes batches of any size.
    """
    if output.suffix not in SUFFIXES:
        raise click.BadParameter(f"{output} does not end in {', '.join(SUFFIXES)}", param_hint="-o")
    from netslim.files import check_writable

    check_writable(output)
    import netslim
    from netslim.export import write_module, write_onnx
    from netslim.report import say

    net = netslim.load(archive, trust=trust)
    model = net.extract(width=width, depth=dict.fromkeys(depth, False))
    if output.suffix == ".onnx":
        write_onnx(model, net.plan.inputs, output)
    else:
        write_module(model, output)
    kept, full = (sum(p.numel() for p in module.parameters()) for module in (model, net))
    if as_json:
        click.echo(json.dumps({"width": width, "params": kept, "params_full": full, "output": str(output)}, indent=2))
    else:
        say(f"{kept:,} of {full:,} parameters ({kept / full:.1%}) written to {output}")
