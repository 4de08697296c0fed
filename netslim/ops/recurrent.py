"""Recurrent layers. The gates of a cell are one axis, which is that of its hidden state too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from netslim.layouts.axes import Const, Layout, concat, product
from netslim.layouts.engine import Call, Rule
from netslim.ops.family import Examples, Fits, Modules, Rules


def recurrent(gates: int) -> Rule:
    """A rule for lstm, gru, rnn: features, states (layers * directions, batch, hidden), weights of every cell."""

    def rule(call: Call) -> None:
        x, params = call.tensors[0], call.arg("params")
        states = call.arg("hx")
        states = [states] if isinstance(states, Tensor) else list(states)
        cells = call.arg("num_layers") * (2 if call.arg("bidirectional") else 1)
        size = len(params) // cells
        hidden, features = call.dims(states[-1])[-1], call.dims(states[0])[-1]
        if size % 2 == 0:  # no projection
            call.unify(hidden, features)
        along, ends = call.dims(x)[-1], list[Layout]()
        for cell in range(cells):
            _cell(call, params[cell * size : (cell + 1) * size], gates, along, hidden, features)
            ends.append(features)
            if len(ends) == cells // call.arg("num_layers"):
                along, ends = concat(*ends), []
        _run(call, x, states, along)

    return rule


def _cell(call: Call, params: Sequence[Tensor], gates: int, inputs: Layout, hidden: Layout, features: Layout) -> None:
    """Weights (gates * hidden, inputs), (gates * hidden, features), biases, and the optional projection to features."""
    w_ih, w_hh = params[:2]
    stacked = product(Const(gates), hidden)
    for tensor in params[: 4 if call.arg("has_biases") else 2]:
        call.unify(call.dims(tensor)[0], stacked)
    call.unify(call.dims(w_ih)[1], inputs)
    call.unify(call.dims(w_hh)[1], features)
    if len(params) % 2:
        for mine, its in zip(call.dims(params[-1]), (features, hidden), strict=True):
            call.unify(mine, its)


def _run(call: Call, x: Tensor, states: Sequence[Tensor], features: Layout) -> None:
    """The sequence stays whole, as does the number of cells; the batch is that of the states."""
    dims, packed = list(call.dims(x)[:-1]), call.arg("batch_sizes")
    if packed is not None:
        call.freeze(dims + call.dims(packed), "a packed sequence")
    for state in states:
        call.freeze(call.dims(state)[:1], "counts the cells")
    batch = 1 - int(bool(call.arg("batch_first"))) if len(dims) == 2 else None
    for i, layout in enumerate(dims):
        if i != batch:
            call.freeze([layout], "a recurrent layer runs along this dimension")
        else:
            for state in states:
                call.unify(layout, call.dims(state)[1])
    call.set(call.outs[0], [*dims, features])
    for out, state in zip(call.outs[1:], states, strict=True):
        call.set(out, call.dims(state))


def one_step(gates: int) -> Rule:
    """A rule for a cell that is called by itself: x (..., inputs), states (..., hidden)."""

    def rule(call: Call) -> None:
        x, states = call.tensors[0], call.arg("hx")
        states = [states] if isinstance(states, Tensor) else list(states)
        weights = [call.arg(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
        *batch, inputs = call.dims(x)
        *_, hidden = call.dims(states[0])
        stacked = product(Const(gates), hidden)
        for tensor, last in zip(weights, (inputs, hidden, None, None), strict=True):
            if tensor is not None:
                call.unify(call.dims(tensor)[0], stacked)
            if last is not None:
                call.unify(call.dims(tensor)[1], last)
        for state in states:
            for mine, its in zip((*batch, hidden), call.dims(state), strict=True):
                call.unify(mine, its)
        for out in call.outs:
            call.set(out, [*batch, hidden])

    return rule


RULES: Rules = {
    "lstm": recurrent(4), "gru": recurrent(3), "rnn_tanh": recurrent(1), "rnn_relu": recurrent(1),
    "lstm_cell": one_step(4), "gru_cell": one_step(3), "rnn_tanh_cell": one_step(1), "rnn_relu_cell": one_step(1),
}  # fmt: skip


def _states(r: Callable[..., Tensor], *sizes: int, cells: int = 1) -> list[Tensor]:
    return [r(cells, 2, n) for n in sizes]


def _weights(r: Callable[..., Tensor], gates: int, inputs: int, hidden: int) -> list[Tensor]:
    return [r(gates * hidden, inputs), r(gates * hidden, hidden), r(gates * hidden), r(gates * hidden)]


EXAMPLES: Examples = {
    "lstm": lambda r: torch.lstm(r(2, 3, 6), _states(r, 5, 5), _weights(r, 4, 6, 5), True, 1, 0.0, False, False, True)[
        0
    ],
    "gru": lambda r: torch.gru(r(3, 2, 6), r(1, 2, 5), _weights(r, 3, 6, 5), True, 1, 0.0, False, False, False)[0],
    "rnn both ways": lambda r: torch.rnn_tanh(
        r(2, 3, 6), r(2, 2, 5), [*_weights(r, 1, 6, 5), *_weights(r, 1, 6, 5)], True, 1, 0.0, False, True, True
    )[0],
    "lstm_cell": lambda r: torch.lstm_cell(r(2, 6), [r(2, 5), r(2, 5)], *_weights(r, 4, 6, 5))[0],
    "gru_cell": lambda r: torch.gru_cell(r(2, 6), r(2, 5), *_weights(r, 3, 6, 5)),
    "rnn_relu_cell": lambda r: torch.rnn_relu_cell(r(2, 6), r(2, 5), r(5, 6), r(5, 5)),
}

FITS: Fits = {}
MODULES: Modules = {}
