"""`netslim extract`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import WidthType, calibration_options, json_option, require_data, trust_option

if TYPE_CHECKING:
    from torch import nn

    from gradaug.data import Batches
    from netslim import SlimNet


@click.command()
@click.argument("archive", metavar="converted.pt")
@click.option("--width", type=WidthType(), required=True, help="Share of the channels to keep, in (0, 1].")
@click.option("--depth", multiple=True, metavar="BLOCK", help="Leave out this block; repeat.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="slim.pt, slim.onnx, slim.pt2: the suffix says the form; a name without one is a folder.",
)
@click.option("--data", help="Recalibrate batch norm on training images of these, as gradaug eval does: digits, ...")
@calibration_options
@trust_option
@json_option
@click.pass_context
def extract(
    context: click.Context,
    archive: str,
    width: float,
    depth: tuple[str, ...],
    output: Path,
    data: str | None,
    round_to: int,
    trust: bool,
    as_json: bool,
    batch_size: int,
    calibration_batches: int,
    seed: int,
) -> None:
    """Cut a plain, smaller network out of a converted one.

    A folder holds model.py, the network as source, and weights.safetensors; import model, and call model.load(). A .pt
    file holds the whole module: it needs no netslim, and opens with torch.load(FILE, weights_only=False). Both train
    and evaluate as the original does. A .pt2 file (torch.export) and a .onnx file evaluate batches of any size.

    What was written is read back and compared with the network; where it differs, there is no file.

    Batch norm of a smaller network needs running statistics of its own, which take training images: with --data the
    file holds the very network that gradaug eval scores at this width.
    """
    if data is None:
        require_data(context, {"batch_size": batch_size, "calibration_batches": calibration_batches, "seed": seed})
    import netslim
    from netslim.export import WRITERS
    from netslim.net.runtime import runtime
    from netslim.notes import FULL, Notes, is_cut, statistics
    from netslim.report import say

    if output.suffix not in WRITERS:
        forms = ", ".join(filter(None, WRITERS))
        raise click.BadParameter(f"{output} does not end in {forms}, nor is it a folder (no suffix)", param_hint="-o")
    writer = WRITERS[output.suffix]
    writer.check(output)
    net = netslim.load(archive, trust=trust)
    blocks = dict.fromkeys(depth, False)
    model = net.extract(width, blocks, round_to=round_to)
    found, images = statistics(net, width, blocks, round_to), None
    if data is not None:
        batches = _batches(net, data, batch_size, calibration_batches, seed)
        if found == FULL:
            found = _recalibrate(model, batches)
            images = f"{len(batches)} batches of {batch_size} training images of {data}"
    plan, cut = runtime(net).plan, is_cut(net, width, blocks, round_to)
    shapes = tuple(shape[1:] for shape in plan.input_shapes)
    notes = Notes(width, round_to, depth, cut, shapes, found, images)
    compared = writer.write(model, plan.inputs, output, notes) or None
    kept, full = (sum(p.numel() for p in module.parameters()) for module in (model, net))
    if as_json:
        sizes = {"params": kept, "params_full": full, "output": str(output), "compared": compared}
        click.echo(json.dumps({**notes.to_dict(), **sizes}, indent=2))
        return
    say(f"{kept:,} of {full:,} parameters ({kept / full:.1%}) written to {output}")
    say(f"read back and found to be the same: {compared}" if compared else "not read back and compared")
    if notes.calibration:
        say(f"batch norm recalibrated on {notes.calibration}")
    elif notes.statistics == FULL:
        say("batch norm not recalibrated")
    elif data is not None:
        say(f"nothing to recalibrate (running statistics: {notes.statistics})")
    if notes.warning:
        click.echo(f"warning: {notes.warning}", err=True)


def _batches(net: SlimNet, data: str, batch_size: int, calibration_batches: int, seed: int) -> Batches:
    """The training images on which `gradaug eval` recalibrates, after the same checks."""
    from gradaug.data import calibration_batches as batches_of
    from gradaug.data import load
    from gradaug.evaluation.score import require_fit
    from gradaug.inputs import image_shape
    from gradaug.tasks import TASKS

    source = load(data, image_shape(net), seed)
    require_fit(net, source, TASKS[source.task].load()())
    return batches_of(source, batch_size, calibration_batches, seed)


def _recalibrate(model: nn.Module, batches: Batches) -> str:
    """Gives the extracted network the statistics that `gradaug eval` would; RECALIBRATED or PARTLY."""
    import torch

    from gradaug.evaluation.score import recalibrate
    from netslim.notes import PARTLY, RECALIBRATED, Normalised

    seen = Normalised()
    with torch.no_grad(), seen:
        model(next(iter(batches))[0])
    before = [mean.clone() for mean in seen.means]
    recalibrate(model, batches)
    return PARTLY if any(map(torch.equal, before, seen.means)) else RECALIBRATED
