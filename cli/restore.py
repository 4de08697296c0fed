"""`netslim restore`."""

from __future__ import annotations

from pathlib import Path

import click

from .options import trust_option


@click.command()
@click.argument("archive", metavar="converted.pt")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write.")
@trust_option
def restore(archive: str, output: Path, trust: bool) -> None:
    """Write the trained weights under the original model's keys.

    The file is a plain state_dict: model.load_state_dict(torch.load(FILE)) puts it back into the original model.
    """
    from netslim.files import check_writable

    check_writable(output)
    import netslim
    from netslim.export import write_state_dict
    from netslim.report import say

    state = netslim.load(archive, trust=trust).original_state_dict()
    write_state_dict(state, output)
    say(f"{len(state)} tensors written to {output}")
