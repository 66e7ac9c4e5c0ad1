"""A move of a turn as one CUDA graph.

A step of a small model is a thousand small kernels, and a processor takes ten times as long to launch them as a GPU to
run them. Captured once, they are launched together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from gencli.core.noise import StepNoise
from gencli.core.spec import Batch

WARM = 10
"""Moves that are made kernel by kernel first: optimizers make their state in them, libraries choose their kernels."""

Move = Callable[[Batch, StepNoise], dict[str, Tensor]]
"""A batch in data space and noise -> scalars to log; it moves parameters."""


class Graph:
    """Makes a move, in the long run by replaying a CUDA graph.

    The move must be static (``Turn.static``): nothing of the host that changes from step to step enters it. What does
    change lies in tensors that are filled before: the batch, the learning rate, the number of the step. Random numbers
    are those that the move would draw by itself, since a replay begins at the state of the generators.

    Args:
        move: what is captured.
        device: a CUDA device.
        failed: called with the reason, once, where the move cannot be captured; it is made kernel by kernel then.
    """

    def __init__(self, move: Move, device: torch.device, failed: Callable[[str], None]) -> None:
        self.move, self.device, self.failed = move, device, failed
        self.left = WARM
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: Batch | None = None
        self.noise = StepNoise(device)  # the graph knows this generator
        self.logs: dict[str, Tensor] = {}

    def __call__(self, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        """Make the move; returns fresh scalars to log.

        Args:
            batch: in data space; of the same shapes each time.
            noise: which has not been drawn from.
        """
        self.noise.generator.manual_seed(noise.generator.initial_seed())
        if self.graph is None and self.left == 0:
            self._capture(batch)
        if self.graph is None:
            self.left -= self.left > 0
            return self.move(batch, self.noise)
        _fill(self.batch, batch)
        self.graph.replay()
        return {name: value.clone() for name, value in self.logs.items()}

    def _capture(self, batch: Batch) -> None:
        """Record the move without making it."""
        device = self.device
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.noise.generator)
        still = copy.copy(batch)
        for name, value in _tensors(batch).items():
            setattr(still, name, value.clone())
        torch.cuda.synchronize(device)
        default = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
        states = [(generator, generator.get_state()) for generator in (default, self.noise.generator)]
        try:
            # The outer one leaves the stream of the capture also where the capture cannot be ended.
            with torch.cuda.stream(torch.cuda.current_stream(device)), torch.cuda.graph(graph):
                self.logs = self.move(still, self.noise)
        except RuntimeError as error:
            self.left = -1
            for generator, state in states:
                _renew(generator, state)
            self.failed(str(error).splitlines()[0])
        else:
            self.graph, self.batch = graph, still


def _renew(generator: torch.Generator, state: Tensor) -> None:
    """Give a generator a state of its own again: a capture that failed leaves it thinking that it is recorded."""
    fresh = torch.Generator(generator.device)
    fresh.set_state(state)
    generator.graphsafe_set_state(fresh)


def _tensors(batch: Batch) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}


def _fill(still: Batch | None, batch: Batch) -> None:
    assert still is not None
    for name, value in _tensors(still).items():
        value.copy_(getattr(batch, name))
