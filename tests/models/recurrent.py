"""Recurrent layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import register_model


@register_model("BiLSTM", [(12, 20)], ["recurrent"], "Two-layer bidirectional LSTM, its states among the outputs")
class BiLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(20, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.tags = nn.Linear(32, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, (hidden, cell) = self.lstm(x)
        return self.tags(states), hidden, cell


@register_model(
    "GRUDecoder",
    [],
    ["recurrent"],
    "GRU that takes and returns its state, and a cell unrolled after it",
    make_inputs=lambda g: (torch.randn(6, 2, 10, generator=g), torch.randn(1, 2, 14, generator=g)),
)
class GRUDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(10, 14)
        self.cell = nn.GRUCell(14, 14)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        states, state = self.gru(x, state)
        last = state[0]
        for step in states.unbind(0)[-2:]:
            last = self.cell(step, last)
        return states, last
