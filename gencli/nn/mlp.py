"""Fully connected networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from gencli.core import sizes
from gencli.core.options import Auto, BelowOne, Count
from gencli.core.tensors import shared
from gencli.nn.base import Network

Activation = Literal["silu", "softplus", "relu", "tanh", "elu", "gelu"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}

BACKWARD: dict[type[nn.Module], Callable[[Tensor, Tensor], Tensor]] = {
    nn.SiLU: torch.ops.aten.silu_backward,
    nn.Softplus: lambda gradient, h: torch.ops.aten.softplus_backward(gradient, h, 1, 20),
    nn.ReLU: lambda gradient, h: torch.ops.aten.threshold_backward(gradient, h, 0),
    nn.Tanh: lambda gradient, h: torch.ops.aten.tanh_backward(gradient, h.tanh()),
    nn.GELU: torch.ops.aten.gelu_backward,
}
"""dL/dh of activations a(h), from dL/da and h."""


class MLP(Network):
    """Linear layers with an activation between them, from any shape to any shape.

    The context is concatenated to the flattened input, whose weights start as they would without it. The last layer
    starts at zero, so that what the network parameterises starts at its neutral element.

    Args:
        in_shape: event shape of the input.
        out_shape: event shape of the output.
        context: dimension C of the context; 0: none.
        hidden: width of each hidden layer; auto: two layers, as wide as ``sizes.width`` says of the inputs.
        dropout: probability that a hidden unit is dropped in training.
        activation: one of ``ACTIVATIONS``.
        spectral_norm: divide every weight but the last by its largest singular value (Miyato et al., "Spectral
            normalization for generative adversarial networks", 2018).

    Example:
        >>> MLP((2,), (3,), 0)(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        hidden: Auto[Sequence[Count]] = "auto",
        dropout: BelowOne = 0.0,
        activation: Activation = "silu",
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        own = [sizes.width(math.prod(in_shape))] * 2
        widths = [math.prod(in_shape) + context, *sizes.settle(self, "hidden", hidden, own)]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            linear = nn.Linear(n_in, n_out)
            if context and not layers:  # as if x came alone: among many features its weights would start too small
                bound = (n_in - context) ** -0.5
                nn.init.uniform_(linear.weight[:, :-context], -bound, bound)
            layers += [parametrizations.spectral_norm(linear) if spectral_norm else linear, ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        last = nn.Linear(widths[-1], math.prod(out_shape))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x.flatten(1)
        if context is None:
            h = self.layers(x)
        elif len(row := shared(context)) == len(x):
            h = self.layers(torch.cat([x, context], 1))
        else:  # one context of all rows is a bias of the first layer
            first, *others = self.layers
            assert isinstance(first, nn.Linear)
            of_x, of_context = first.weight.split([x.shape[1], row.shape[1]], 1)
            h = F.linear(x, of_x, F.linear(row, of_context, first.bias)[0])
            for layer in others:
                h = layer(h)
        return h.view(-1, *self.out_shape)

    @torch.no_grad()
    def slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f(x) and its gradient by the chain rule, layer by layer: what autograd does, without its graph."""
        if not all(type(layer) in (nn.Linear, *BACKWARD) for layer in self.layers):
            return super().slope(x)
        inputs, h = [], x.flatten(1)
        for layer in self.layers:
            inputs.append(h)
            h = layer(h)
        gradient = torch.ones_like(h)
        for layer, of in zip(reversed(self.layers), reversed(inputs), strict=True):
            gradient = gradient @ layer.weight if isinstance(layer, nn.Linear) else BACKWARD[type(layer)](gradient, of)
        return h.squeeze(1), gradient.view_as(x)
