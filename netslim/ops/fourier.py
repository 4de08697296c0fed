"""Fourier transforms, which run over whole dimensions, and complex numbers."""

from __future__ import annotations

import torch

from netslim.layouts.axes import Const
from netslim.layouts.engine import Call
from netslim.ops.family import Examples, Fits, Modules, Rules


def transform(call: Call) -> None:
    """The dimensions that are transformed stay whole; the others pass."""
    x, out, text = call.tensors[0], call.outs[0], "a Fourier transform runs along this dimension"
    dims = list(call.dims(x))
    along = [d % x.dim() for d in call.arg("dim")]
    call.freeze([dims[d] for d in along], text)
    reason = call.why(text)()
    for d in along:
        dims[d] = Const(out.shape[d], reason)
    call.set(out, dims)


def as_real(call: Call) -> None:
    """A complex number is two real ones, in a new last dimension."""
    call.set(call.outs[0], [*call.dims(call.tensors[0]), Const(2)])


def as_complex(call: Call) -> None:
    """The last dimension holds real and imaginary parts."""
    *dims, parts = call.dims(call.tensors[0])
    call.freeze([parts], "real and imaginary parts")
    call.set(call.outs[0], dims)


RULES: Rules = {
    "_fft_r2c": transform, "_fft_c2r": transform, "_fft_c2c": transform, "view_as_real": as_real,
    "view_as_complex": as_complex,
}  # fmt: skip

EXAMPLES: Examples = {
    "fft2": lambda r: torch.fft.fft2(r(2, 6, 4, 4)).abs(),
    "rfft2 and back": lambda r: torch.fft.irfft2(torch.fft.rfft2(r(2, 6, 4, 4), norm="ortho"), s=(4, 4), norm="ortho"),
    "fft over channels": lambda r: torch.fft.fft(r(2, 6, 4), dim=1).real,
    "fftshift": lambda r: torch.fft.fftshift(r(2, 6, 4, 4), dim=(2, 3)),
    "complex weights": lambda r: (torch.fft.rfft(r(2, 6, 4)) * torch.view_as_complex(r(6, 3, 2))).abs(),
}

FITS: Fits = {}
MODULES: Modules = {}
