"""Recurrent layers: gates are one axis, and the hidden state is the same one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tests.zoo.specimen import Specimen, Written, conv, head, images


def _rows(m: Any, x: Tensor) -> Tensor:
    """Columns of places are read one after another."""
    out, _ = m.rnn(m.stem(x).mean(2).transpose(1, 2))
    return m.head(m.after(out[:, -1]).relu())


def _network(rnn: nn.Module, width: int = 10) -> nn.Module:
    return Written(_rows, stem=conv(3, 8), rnn=rnn, after=nn.Linear(width, 6), head=head(6))


OTHERS = images(16, batch=3), images(20, batch=1)

SPECIMENS = {
    "LSTM": Specimen(
        lambda: _network(nn.LSTM(8, 10, batch_first=True)), {"stem": 8, "rnn.weight_ih_l0": 10, "after": 6},
        others=OTHERS,
    ),
    "GRU": Specimen(
        lambda: _network(nn.GRU(8, 10, batch_first=True)), {"stem": 8, "rnn.weight_ih_l0": 10, "after": 6},
        others=OTHERS,
    ),
    "plain recurrence": Specimen(
        lambda: _network(nn.RNN(8, 10, batch_first=True, bias=False)),
        {"stem": 8, "rnn.weight_ih_l0": 10, "after": 6}, others=OTHERS,
    ),
    # the states of all cells are one tensor, so that all have one width
    "two layers, both ways": Specimen(
        lambda: _network(nn.LSTM(8, 10, 2, batch_first=True, bidirectional=True, dropout=0.2), 20),
        {"stem": 8, "rnn.weight_ih_l0": 10, "after": 6},
        others=OTHERS,
    ),
    "projected LSTM": Specimen(
        lambda: _network(nn.LSTM(8, 10, batch_first=True, proj_size=4), 4),
        {"stem": 8, "rnn.weight_ih_l0": 10, "rnn.weight_hr_l0": 4, "after": 6}, others=OTHERS,
    ),
}  # fmt: skip
