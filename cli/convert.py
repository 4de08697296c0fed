"""`netslim convert`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import SourceOptions, convert_loaded, json_option, load_model, source_options


@click.command()
@click.argument("source")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="converted.pt", show_default=True, help="File to write."
)
@source_options
@click.option("--prove/--no-prove", default=True, help="Prove the conversion.  [default: prove]")
@click.option(
    "--quick", is_flag=True, help="Check one run and one sub-network in the place of the proof; the file says so."
)
@json_option
def convert(source: str, output: Path, prove: bool, quick: bool, as_json: bool, options: SourceOptions) -> None:
    """Make a model run at any width, and prove it.

    SOURCE is mymodel.py, package.module:callable, torchvision:NAME or timm:NAME. The result needs none of the model's
    code: it can be trained where SOURCE does not exist.
    """
    from netslim.files import check_writable

    if quick and not prove:
        raise click.UsageError("--quick is a short form of the proof, which --no-prove leaves out; say one of them.")
    check_writable(output)
    import netslim
    from netslim.report import conversion, conversion_dict, say, stages

    with stages() as progress:
        progress("load", 0.0)
        loaded = load_model(source, options)
        net = convert_loaded(loaded, options, prove=prove, quick=quick, progress=progress)
        progress("write", 0.0)
        netslim.save(net, output)
    if as_json:
        click.echo(json.dumps({"source": loaded.spec, **conversion_dict(net), "output": str(output)}, indent=2))
        return
    say(conversion(net, title=loaded.spec))
    say(f"written to {output}")
