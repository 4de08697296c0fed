"""`netslim extract`."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .budgets import Chosen, SizeOptions, chosen, ranking_of, require_ranking, size_options
from .options import calibration_options, json_option, trust_option
from .training_data import DataOptions, TrainingData, together

if TYPE_CHECKING:
    from torch import nn

    from netslim import SlimNet
    from netslim.choosing.latency import Seconds
    from netslim.choosing.ranking import Ranked
    from netslim.cost import Count
    from netslim.export import Writer
    from netslim.export.speed import Speeds
    from netslim.export.written import Written
    from netslim.files import JSON
    from netslim.notes import Notes

PLACE = "{width}"
"""In the name of an output: where the width goes."""


@click.command()
@click.argument("archive", metavar="converted.pt")
@size_options
@click.option("--depth", multiple=True, metavar="BLOCK", help="Leave out this block; repeat.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="slim.pt, slim.onnx, slim.pt2: the suffix says the form; a name without one is a folder. Of several widths "
    "each is put where {width} stands in it, else before the suffix: slim-0.5.pt.",
)
@click.option(
    "--runtime",
    type=click.Choice(["torch", "onnxruntime"]),
    help="What --latency is measured in: onnxruntime for an .onnx file, torch for other forms.",
)
@click.option("--data", help="Recalibrate batch norm on training images of these, as gradaug eval does: digits, ...")
@calibration_options
@trust_option
@json_option
@together
def extract(
    archive: str,
    size: SizeOptions,
    depth: tuple[str, ...],
    output: Path,
    runtime: str | None,
    images: DataOptions,
    round_to: int,
    trust: bool,
    as_json: bool,
) -> None:
    """Cut a plain, smaller network out of a converted one: of a width, or what a budget allows.

    A folder holds model.py, the network as source, and weights.safetensors; import model, and call model.load(). A .pt
    file holds the whole module: it needs no netslim, and opens with torch.load(FILE, weights_only=False). Both train
    and evaluate as the original does. A .pt2 file (torch.export) and a .onnx file evaluate batches of any size, and
    images of any size where the network and torch's exporter allow it; the summary says which sizes are open.

    What was written is read back and compared with the network, an .onnx file in onnxruntime; where it differs, there
    is no file. The summary gives the size of the file, and its speed beside the full network's.

    Batch norm of a smaller network needs running statistics of its own, which take training images: with --data the
    file holds the very network that gradaug eval scores at this width.
    """
    require_ranking(size.ranking, images.data is not None, "--ranking")
    images.require(seeded=size.ranking == "random")
    import netslim
    from netslim import cost
    from netslim.export import WRITERS

    if output.suffix not in WRITERS:
        forms = ", ".join(filter(None, WRITERS))
        raise click.BadParameter(f"{output} does not end in {forms}, nor is it a folder (no suffix)", param_hint="-o")
    timed = size.budget is not None and size.budget.kind == "latency"
    if runtime is not None and not timed:
        raise click.UsageError("--runtime goes with --latency.")
    if size.budget is not None and PLACE in output.name:
        raise click.BadParameter(f"{PLACE} in it is for --width", param_hint="-o")
    writer = WRITERS[output.suffix]
    outputs = [_named(output, width, len(size.widths) > 1) for width in size.widths] or [output]
    for path in outputs:
        writer.check(path)
    net = netslim.load(archive, trust=trust)
    data, full = images.of(net), cost.count(net)
    ranking = ranking_of(net, size.ranking, data, images.seed)
    seconds = _seconds(net, runtime or ("onnxruntime" if output.suffix == ".onnx" else "torch")) if timed else None
    found = chosen(net, size, dict.fromkeys(depth, False), round_to, ranking, data, images.seed, seconds)
    told: list[JSON] = []
    for one, path in zip(found, outputs, strict=True):
        made = _written(net, full, one, round_to, ranking, data, writer, path)
        told.append(made.to_dict())
        if not as_json:
            _say(net, made, data is not None)
    if as_json:
        click.echo(json.dumps(told[0] if len(told) == 1 else told, indent=2))


def _seconds(net: SlimNet, runtime: str) -> Seconds:
    """Measures networks in a runtime, beside the full one."""
    from netslim.choosing.steady import steady
    from netslim.export.speed import RUNTIMES
    from netslim.net.runtime import runtime as of

    return steady(RUNTIMES[runtime], net.extract(), of(net).plan.inputs)


def _named(output: Path, width: float, several: bool) -> Path:
    """The path for a width: put where {width} stands, or before the suffix where there are several."""
    if PLACE in output.name:
        return output.with_name(output.name.replace(PLACE, f"{width}"))
    return output.with_name(f"{output.stem}-{width}{output.suffix}") if several else output


def _written(
    net: SlimNet, full: Count, one: Chosen, round_to: int, ranking: Ranked | None, images: TrainingData | None,
    writer: Writer, output: Path,
) -> Made:  # fmt: skip
    """Extracts, recalibrates and writes one network."""
    from netslim import cost
    from netslim.export.speed import speeds
    from netslim.ir.inputs import shapes_of_one
    from netslim.net.runtime import runtime
    from netslim.net.subnet import keep_counts
    from netslim.notes import FULL, Notes, is_cut, statistics

    plan = runtime(net).plan
    model = net.extract(one.width, one.depth, round_to=round_to, ranking=ranking)
    found, calibration = statistics(net, one.width, one.depth, round_to), None
    if images is not None and found == FULL:
        found, calibration = images.recalibrate(model), images.said
    counts = dict(zip((g.name for g in plan.groups), keep_counts(plan, one.width, round_to), strict=True))
    share = sum(counts.values()) / max(1, sum(group.size for group in plan.groups))
    notes = Notes(
        width=share if isinstance(one.width, Mapping) else one.width,
        round_to=round_to,
        skipped=tuple(name for name, runs in one.depth.items() if not runs),
        cut=is_cut(net, one.width, one.depth, round_to),
        shapes=shapes_of_one(plan.inputs),
        inputs=plan.inputs,
        statistics=found,
        calibration=calibration,
        groups=counts if isinstance(one.width, Mapping) else None,
        ranking=None if ranking is None else ranking.by,
    )
    written = writer.write(model, plan.inputs, output, notes)
    kept = cost.count(net, one.width, one.depth, round_to=round_to)
    params = _params(model), _params(net)
    speed = speeds(output, copy.deepcopy(model), net.extract(), plan.inputs, written)
    size = sum(file.stat().st_size for file in writer.at(output))
    return Made(one, notes, output, written, size, speed, params, (kept.flops, full.flops), counts)


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@dataclass(frozen=True, slots=True)
class Made:
    """One network that was written. size: in bytes; params, flops: its own, and the full network's."""

    chosen: Chosen
    notes: Notes
    output: Path
    written: Written
    size: int
    speed: Speeds | None
    params: tuple[int, int]
    flops: tuple[int, int]
    counts: Mapping[str, int]

    def to_dict(self) -> dict[str, JSON]:
        found = {"seconds": self.chosen.seconds, "score": self.chosen.score, "tried": self.chosen.tried}
        return {
            **self.notes.to_dict(),
            "params": self.params[0],
            "params_full": self.params[1],
            "flops": self.flops[0],
            "flops_full": self.flops[1],
            "widths": self.counts,
            **({} if self.chosen.budget is None else {"budget": self.chosen.budget, **found}),
            "output": str(self.output),
            "compared": self.written.compared or None,
            "unchecked": self.written.unchecked or None,
            "open": self.written.open,
            "fixed": dict(self.written.fixed),
            "bytes": self.size,
            "speed": None if self.speed is None else asdict(self.speed),
        }


def _say(net: SlimNet, made: Made, has_data: bool) -> None:
    """The summary of one network."""
    from netslim.notes import FULL
    from netslim.report import say

    notes = made.notes
    costs = (f"{kept:,} of {full:,} {what} ({kept / max(1, full):.1%})" for (kept, full), what in (
        (made.params, "parameters"), (made.flops, "FLOPs")))  # fmt: skip
    say(f"{' and '.join(costs)} written to {made.output}")
    for line in _choice(net, made):
        say(line)
    for line in _form(made):
        say(line)
    if notes.calibration:
        say(f"batch norm recalibrated on {notes.calibration}")
    elif notes.statistics == FULL:
        say("batch norm not recalibrated")
    elif has_data:
        say(f"nothing to recalibrate (running statistics: {notes.statistics})")
    if notes.warning:
        click.echo(f"warning: {notes.warning}", err=True)


def _form(made: Made) -> Iterator[str]:
    """The file, and what it takes."""
    written, speed = made.written, made.speed
    ms = "" if speed is None else (
        f", {speed.seconds * 1e3:.3g} ms an image in {speed.runtime} here (the full network: {speed.full * 1e3:.3g} ms)"
    )  # fmt: skip
    yield f"size: {made.size / 1e6:.3g} MB{ms}"
    same = f"read back and found to be the same: {written.compared}"
    yield same if written.compared else f"not checked: {written.unchecked}"
    if written.open is not None:
        yield f"open sizes: {', '.join(written.open) or 'none'}"
    for why in dict.fromkeys(written.fixed.values()):
        names = [name for name, reason in written.fixed.items() if reason == why and name != "channels"]
        if names:
            yield f"fixed: {' and '.join(names)}, as {why}"


def _choice(net: SlimNet, made: Made) -> Iterator[str]:
    """What was chosen, where that was not said on the command line."""
    from netslim.net.runtime import runtime

    one, groups = made.chosen, runtime(net).plan.groups
    if one.budget is not None:
        yield f"budget: {one.budget}" + ("" if one.seconds is None else f"; measured: {one.seconds * 1e3:.3g} ms")
        if isinstance(one.width, Mapping) and groups:
            shares = {group.name: made.counts[group.name] / group.size for group in groups}
            low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
            yield f"widths: {shares[low]:.2f} ({low}) to {shares[high]:.2f} ({high})"
        else:
            yield f"width: {one.width:g} in all groups"
        if made.notes.skipped:
            yield f"left out: {', '.join(made.notes.skipped)}"
    if one.score is not None:
        yield f"the best of {one.tried} sub-networks on the training images"
    if made.notes.ranking:
        yield f"channels kept by {made.notes.ranking}"
