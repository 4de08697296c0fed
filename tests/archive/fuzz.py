"""Damaged and altered files by the thousand: what becomes of each.

    python -m tests.archive.fuzz --flips 5000 --mutations 2000 --seed 1

A flip changes a byte or cuts the file; a mutation changes the document or the tensors at random and signs the file
anew, as somebody would who knows the form. Every file has to be refused in a sentence, or be a network: equal to the
original, or (mutations only, since whoever writes a file may write another network) one that passes its proof.
"""

from __future__ import annotations

import argparse
import collections
import copy
import random
import resource
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import netslim
from netslim.errors import NetslimError
from tests.archive.nets import IMAGES, good, opened, signed

SECONDS, GIB = 30, 1 << 30
Counts = collections.Counter[str]


def flips(number: int, seed: int, folder: Path) -> Iterator[Path]:
    """Copies of the good file with a bit, a byte or a stretch of it changed, or cut short."""
    raw, rng = good().read_bytes(), random.Random(seed)
    header = int.from_bytes(raw[:8], "little") + 8
    for i in range(number):
        damaged = bytearray(raw)
        at = rng.randrange(header if i % 2 else len(raw))
        kind = rng.choice(("bit", "bit", "byte", "stretch", "cut"))
        if kind == "cut":
            del damaged[at:]
        elif kind == "stretch":
            damaged[at : at + 16] = rng.randbytes(len(damaged[at : at + 16]))
        else:
            damaged[at] ^= 1 << rng.randrange(8) if kind == "bit" else rng.randrange(1, 256)
        path = folder / "flipped.pt"
        path.write_bytes(damaged)
        if bytes(damaged) != raw:
            yield path


def mutations(number: int, seed: int, folder: Path) -> Iterator[Path]:
    """Copies of the good file with one to three things in it changed at random, signed anew."""
    document, tensors = opened(good())
    for i in range(number):
        rng = random.Random(f"{seed} {i}")
        changed, held = copy.deepcopy(document), dict(tensors)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            rng.choices((_mutate, _mutate_tensors), (9, 1))[0](changed, held, rng)
        try:
            yield signed(folder / "mutated.pt", changed, held)
        except Exception:  # what cannot even be written is no file
            continue


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in nested lists and dicts: the container and the key."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


_STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 1 << 31, 1 << 62, 1 << 63, 1 << 70, -(1 << 63), 0.5, -0.0, 1e300, "", "a",
    "self", "__class__", "eval", "ｅｖａｌ", "torch.relu", "stem", "stem.weight", "x" * 5000, "\n", [], {},
    ["ref", "x"], ["tuple", []],
    ["size", 0], ["size", 99], ["mode", True], ["track"], ["float", "nan"], ["dtype", "int64"], ["device", "cpu"],
    ["const", 8, None], ["group", 0, 8], ["group", 1, 8], ["list", [1, 2]],
)  # fmt: skip


def _mutate(document: Any, _tensors: dict[str, Tensor], rng: random.Random) -> None:
    plan = document.get("plan")
    parts = [document, plan, document.get("modules"), plan.get("regions") if isinstance(plan, dict) else None]
    places = list(_places(rng.choice([part for part in parts if part and isinstance(part, (dict, list))])))
    holder, key = rng.choice(places)
    kind = rng.choice(("strange", "other", "other", "drop", "double", "swap", "nudge"))
    if kind == "strange":
        holder[key] = copy.deepcopy(rng.choice(_STRANGE))
    elif kind == "other":
        place, other = rng.choice(places)
        holder[key] = copy.deepcopy(place[other])
    elif kind == "drop":
        del holder[key]
    elif kind == "double" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == "swap":
        near = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        holder[key], holder[near] = holder[near], holder[key]
    elif kind == "nudge" and isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
        holder[key] += rng.choice((-1, 1, 2, 8, -8))


def _mutate_tensors(_document: Any, tensors: dict[str, Tensor], rng: random.Random) -> None:
    name = rng.choice(list(tensors))
    change: Callable[[Tensor], Tensor] = rng.choice(
        (
            lambda t: t.double(), lambda t: t.half(), lambda t: t.long(), lambda t: t.flatten()[:-1], lambda t: t[None],
            lambda t: torch.cat([t, t]) if t.dim() else t, lambda t: t.transpose(0, -1) if t.dim() > 1 else t,
        )
    )  # fmt: skip
    other = rng.choice(list(tensors))
    if rng.random() < 0.2:
        tensors.pop(name)
    elif rng.random() < 0.2:
        tensors[other + "x"] = tensors[name].clone()
    else:
        tensors[name] = change(tensors[name]).contiguous().clone()


def outcome(path: Path) -> str:
    """refused, equal, sound (another network that passes its proof), or what is wrong."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        try:
            net = netslim.load(path)
        except NetslimError as error:
            return "refused" if "\n" not in str(error) and len(str(error)) < 600 else f"other: refused with {error!r}"
        return _of_network(net)
    except Exception as error:
        return f"other: {type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)


def _of_network(net: netslim.SlimNet) -> str:
    with torch.no_grad():
        got, wanted = (n.eval()(IMAGES) for n in (net, netslim.load(good())))
    proof = netslim.verify(net, cases=1)
    if not proof.passed:
        return f"other: its proof fails ({proof.failures[0][:200]})"
    same = isinstance(got, dict) and got.keys() == wanted.keys() and all(torch.equal(got[k], wanted[k]) for k in got)
    return "equal" if same else "sound"


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"took more than {SECONDS} s")


def run(files: Iterator[Path], keep: Path | None = None) -> Counts:
    """The outcomes of files, counted; those that are wrong are kept in a folder."""
    found: Counts = collections.Counter()
    for i, path in enumerate(files):
        what = outcome(path)
        found[what] += 1
        if keep and what.startswith("other"):
            keep.mkdir(parents=True, exist_ok=True)
            path.rename(keep / f"{i}.pt")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=5000)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files whose outcome is wrong")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    good()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for make, number in ((flips, asked.flips), (mutations, asked.mutations)):
            found = run(make(number, asked.seed, Path(folder)), asked.keep)
            other = sum(n for what, n in found.items() if what.startswith("other"))
            wrong += other
            words = ", ".join(f"{found[what]} {what}" for what in ("refused", "equal", "sound"))
            print(f"{make.__name__}: {found.total()} tried, {words}, {other} other", flush=True)
            for what, n in found.most_common():
                if what.startswith("other"):
                    print(f"  {n} x {what}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / GIB
    print(f"memory grew by {grown:.2f} GiB at most")
    raise SystemExit(bool(wrong) or grown > 1)


if __name__ == "__main__":
    main()
