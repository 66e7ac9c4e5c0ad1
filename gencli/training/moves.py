"""The moves of a step: from examples to parameters that have moved."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import Parameter

from gencli.config.sections import TrainerOptions
from gencli.core import distributed
from gencli.core.noise import Purpose, StepNoise, mix_seed, seeded_global
from gencli.core.spec import Batch
from gencli.objectives.base import Turn
from gencli.run.assembly import Parts
from gencli.run.reporter import Reporter
from gencli.training.graph import Graph
from gencli.training.guard import Guard
from gencli.training.optim import clip
from gencli.training.state import State


class Moves:
    """Every turn's moves, each of them from micro-batches of its own.

    A move is zero gradients, loss, backward, the guard, clipping, a step of the optimizer. On a GPU that of a static
    turn is one CUDA graph.

    Args:
        options: the section ``trainer``.
        seed: the run's.
        parts: data, preprocessing, objective.
        state: with turns and optimizers.
        guard: refuses losses and gradients that are not finite.
        world: this process among its peers.
        precision: number format of the networks.
        reporter: is told of a graph that cannot be.
    """

    def __init__(
        self,
        options: TrainerOptions,
        seed: int,
        parts: Parts,
        state: State,
        guard: Guard,
        world: distributed.World,
        precision: torch.dtype,
        reporter: Reporter,
    ) -> None:
        self.options, self.seed, self.parts, self.state = options, seed, parts, state
        self.guard, self.world, self.precision, self.reporter = guard, world, precision, reporter
        self.device = parts.device
        self.autocast: Callable[[], AbstractContextManager[object]] = nullcontext
        if precision is not torch.float32:  # entering one that is switched off takes as long
            self.autocast = functools.partial(torch.autocast, parts.device.type, precision)
        # What is measured per symbol is trained on nats per symbol: one clip_norm for any window.
        self.symbols = parts.dataset.spec.dim if parts.dataset.per else 1
        self.graphs: dict[int, Graph] = {}
        self.owned: list[list[Parameter]] = []
        self._fraction = 0.0

    def begin(self) -> None:
        """Take the turns as they are now."""
        self.owned = [self.state.strategy.own(turn.parameters) for turn in self.state.turns]
        self.graphs = {number: self._graph(number) for number in range(len(self.state.turns)) if self._static(number)}

    def step(self, batches: Iterator[Batch], fraction: float) -> dict[str, Tensor]:
        """Make all moves of a step; returns scalars to log, on the device.

        Args:
            batches: in data space, one for each micro-batch of each move.
            fraction: of the budget that is used.

        Raises:
            RunFailed: a loss or gradient was not finite.
        """
        self._fraction = fraction
        self.guard.now(self.state.step)
        logs: dict[str, Tensor] = {}
        for number, turn in enumerate(self.state.turns):
            self._only(turn)
            for move in range(turn.repeats):
                seed = (self.seed, Purpose.TRAINING, self.state.step, self.world.rank, number, move)
                drawn = self._drawn(batches, seed)
                make = self._replay if number in self.graphs else self._move
                _add(logs, make(number, drawn), turn.repeats)
        return logs

    def to_model_space(self, batch: Batch, noise: StepNoise, fraction: float) -> Batch:
        """Augmented and preprocessed."""
        x = self.parts.preprocess.augment(self.parts.dataset.augment(batch.x, noise), noise)
        return self.parts.preprocess.batch(replace(batch, x=x, progress=fraction), noise)[0]

    def _drawn(self, batches: Iterator[Batch], seed: tuple[int, ...]) -> Iterator[tuple[Batch, StepNoise]]:
        """Micro-batches in data space, each with its noise, while the global generators are theirs."""
        for micro in range(self.options.accumulate):
            with seeded_global(self.device, mix_seed(*seed, micro, 1)):  # dropout has no generator of its own
                yield next(batches), StepNoise(self.device, *seed, micro)

    def _replay(self, number: int, drawn: Iterable[tuple[Batch, StepNoise]]) -> dict[str, Tensor]:
        """``_move`` of one micro-batch, as a graph."""
        (logs,) = (self.graphs[number](batch, noise) for batch, noise in drawn)
        return logs

    def _move(self, number: int, drawn: Iterable[tuple[Batch, StepNoise]]) -> dict[str, Tensor]:
        """Move the parameters of a turn; returns scalars to log."""
        turn, optimizer, scaler = self.state.turns[number], self.state.optimizers[number], self.state.scaler
        strategy, own = self.state.strategy, self.owned[number]
        for parameter in turn.parameters:
            parameter.grad = None
        total, logs = self._backward(turn, drawn)
        total = strategy.reduce(turn.parameters, total)
        scaled, most = scaler.is_enabled(), self.options.clip_norm
        if scaled:
            scaler.unscale_(optimizer)
        norm = strategy.norm(own)
        self.guard.watch(optimizer, total, norm)
        if most:
            clip(optimizer, own, norm, most)
        if scaled:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        if turn.project is not None:
            turn.project()
        of = "" if len(self.state.turns) == 1 else f"_{turn.name}"
        return logs | {f"loss{of}": total, f"grad_norm{of}": norm}

    def _backward(self, turn: Turn, drawn: Iterable[tuple[Batch, StepNoise]]) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradients of a turn's loss over all micro-batches of a move; returns the loss and what it logs."""
        accumulate, scaler = self.options.accumulate, self.state.scaler
        total: Tensor | None = None
        logs: dict[str, Tensor] = {}
        for batch, noise in drawn:
            batch = self.to_model_space(batch, noise, self._fraction)
            with self.autocast():
                loss = self.state.strategy.loss(turn, batch, noise)
            share = _divided(loss.value, accumulate * self.symbols)
            (scaler.scale(share) if scaler.is_enabled() else share).backward()
            total = share.detach() if total is None else total + share.detach()
            _add(logs, loss.logs, accumulate)
        assert total is not None
        return total, logs

    def _only(self, turn: Turn) -> None:
        """Let only this turn's parameters collect gradients."""
        if len(self.state.turns) > 1:
            own = {id(p) for p in turn.parameters}
            for p in self.state.parameters:
                p.requires_grad_(id(p) in own)

    def _static(self, number: int) -> bool:
        """Whether the moves of a turn are made as a CUDA graph."""
        turn, optimizer = self.state.turns[number], self.state.optimizers[number]
        alone = self.world.size == 1 and self.options.accumulate == 1 and self.precision is not torch.float16
        return self.options.cuda_graph and turn.static and alone and optimizer.defaults.get("capturable", False)

    def _graph(self, number: int) -> Graph:
        def failed(reason: str) -> None:
            self.reporter.warn(f"no CUDA graph of a step, which is slower without: {reason}")

        return Graph(lambda batch, noise: self._move(number, [(batch, noise)]), self.device, failed)


def _add(logs: dict[str, Tensor], found: dict[str, Tensor], of: int) -> None:
    """Add scalars to those of a step, each one of so many."""
    for name, value in found.items():
        value = _divided(value, of)
        logs[name] = logs[name] + value if name in logs else value


def _divided(value: Tensor, by: int) -> Tensor:
    """value / by, without a pass where that is nothing."""
    return value if by == 1 else value / by
