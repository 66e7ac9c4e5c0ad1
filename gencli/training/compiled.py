"""The model as losses see it, compiled; and whether that pays.

To compile takes tens of seconds, which only a long run earns back. ``trainer.compile=auto`` times the first steps and
projects the rest. What it chose is kept with the step from which on it holds, so that a run which was stopped before or
after goes on with the same bits. It is no default: of two equal commands it may choose otherwise, and they round
otherwise then.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any, Literal, cast

import torch

from gencli.core import distributed
from gencli.core.errors import RunFailed, quoted
from gencli.core.noise import StepNoise, seeded_global
from gencli.core.spec import Batch
from gencli.models.base import Model
from gencli.objectives.base import Turn
from gencli.run.assembly import Parts
from gencli.run.folder import RunFolder
from gencli.run.reporter import Reporter
from gencli.training.clock import Clock
from gencli.training.state import State
from gencli.training.strategy import Shards

KEY = "compiled_since"
"""Of run.json: the step from which on losses see a compiled model, null for never; not there: not yet decided."""

WARM, TIMED = 5, 15
"""Steps that are left out because they warm up, and steps that are timed after them."""

PAYS = 150.0
"""Seconds of training that must be left: compiling takes 30 or more, and makes a step some 1.3 times as fast."""


def pays(step: float, steps: int | None, seconds: float | None) -> bool:
    """Whether so much training is left that compiling is earned back.

    Args:
        step: seconds that a step takes, not compiled.
        steps: how many are left; None: the clock alone ends training.
        seconds: how many are left; None: the number of steps alone ends training.

    Example:
        >>> pays(0.02, 3000, None), pays(0.02, 30_000, None), pays(0.02, 30_000, 60.0)
        (False, True, False)
    """
    left = [float("inf") if steps is None else steps * step, float("inf") if seconds is None else seconds]
    return min(left) >= PAYS


def compiler(device: torch.device) -> bool:
    """Whether what torch.compile makes for this device can be built here: C++ for a CPU, Triton for a GPU."""
    if device.type == "cpu":
        return shutil.which(os.environ.get("CXX", "g++")) is not None
    return find_spec("triton") is not None


def pieces(model: Model) -> list[str]:
    """Those of ``Model.compiled`` that this model has."""
    return [name for name in model.compiled if _has(model, name)]


def compiled(model: Model) -> Model:
    """A view of a model, which shares its parameters and buffers, with ``pieces`` that compile when first called."""
    view = copy.copy(model)
    view._modules = dict(view._modules)  # a copy shares the mapping, too
    for name in pieces(model):
        where, _, method = name.rpartition(".")
        of, own = view, cast(Any, model)
        if where:
            own = getattr(model, where)
            of = view._modules[where] = copy.copy(own)
        setattr(of, method, torch.compile(getattr(own, method)))
    return view


def _has(model: Model, name: str) -> bool:
    """Whether a dotted name leads to a method that some class has written."""
    where, _, method = name.rpartition(".")
    own = getattr(model, where, None) if where else model
    found = getattr(type(own), method, None)
    return found is not None and found is not torch.nn.Module.forward


class Watch:
    """Times the first steps of a run and decides, once.

    Args:
        now: seconds of training up to this moment.
        device: whose queued work is waited for when the clock is read.
    """

    def __init__(self, now: Callable[[], float], device: torch.device) -> None:
        self.now, self.device = now, device
        self.seen, self.began = 0, 0.0

    def step(self) -> float | None:
        """Called before every step; the seconds of a step, once they are known."""
        if self.seen in (WARM, WARM + TIMED):
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            if self.seen == WARM + TIMED:
                return (self.now() - self.began) / TIMED
            self.began = self.now()
        self.seen += 1
        return None


class Compilation:
    """Has the losses of a training see a compiled model, from the step on that was asked for or chosen.

    Args:
        asked: ``trainer.compile``.
        parts: the model, and the objective whose losses call it.
        state: of the training; its turns are those that change.
        folder: keeps what was chosen.
        reporter: says it.
        clock: of the training.
        autocast: the number format of losses.
    """

    def __init__(
        self,
        asked: bool | Literal["auto"],
        parts: Parts,
        state: State,
        folder: RunFolder,
        reporter: Reporter,
        clock: Clock,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.asked, self.parts, self.state, self.folder, self.reporter = asked, parts, state, folder, reporter
        self.autocast = autocast
        self.watch = Watch(clock.now, parts.device)
        self.settled = asked is False

    def before_step(self, left: Callable[[], tuple[int | None, float | None]], batch: Callable[[], Batch]) -> bool:
        """Decide if it is time to, and compile if it is time to; returns whether the turns are others now.

        Args:
            left: steps and seconds of the budget.
            batch: some training examples in model space.

        Raises:
            RunFailed: the model cannot be compiled, and ``trainer.compile=true`` asked for it.
        """
        if self.settled or not self._decided(left):
            return False
        since = 0 if self.asked is True else self.folder.info[KEY]
        if since is not None and self.state.step < since:
            return False
        self.settled = True
        return since is not None and self._compile(batch())

    def _decided(self, left: Callable[[], tuple[int | None, float | None]]) -> bool:
        kept = self.folder.info.get(KEY, "")
        if self.asked is True or kept is None or type(kept) is int:
            return True
        against, chosen, step = self._against(), False, None
        if not against:
            step = self.watch.step()
            if step is None:
                return False
            chosen = pays(step, *left())
        told = f"{1000 * step:.3g} ms a step, " if step else ""
        why = against or ("compiled from here on" if chosen else "not compiled, which pays in longer runs")
        since, said = distributed.share((self.state.step if chosen else None, f"trainer.compile=auto: {told}{why}"))
        self.folder.update(**{KEY: since})
        self.reporter.say(said)
        return True

    def _against(self) -> str:
        """Why this training is not compiled however long it is; empty: nothing is against it."""
        if not self.parts.objective.compiles or not pieces(self.parts.model):
            return "not compiled, by which these losses gain nothing"
        if isinstance(self.state.strategy, Shards):
            return "not compiled, since processes share the weights"
        return "" if compiler(self.parts.device) else "not compiled, since there is no compiler here"

    def _compile(self, batch: Batch) -> bool:
        """Take turns of a compiled model, if they work."""
        if not pieces(self.parts.model):
            self.reporter.warn("trainer.compile=true: this model's losses call nothing that is compiled")
            return False
        turns = [turn for turn in self.parts.objective.turns(compiled(self.parts.model)) if turn.parameters]
        try:
            self._try(turns, batch)
        except Exception as error:  # of dynamo, of inductor, of a C++ compiler: whatever torch has
            reason = quoted((str(error).strip() or type(error).__name__).splitlines()[0], 200)
            if self.asked is True:
                raise RunFailed(
                    f"trainer.compile=true: this cannot be compiled here ({reason}); false trains"
                ) from error
            self.folder.update(**{KEY: None})
            self.reporter.warn(f"trainer.compile=auto: not compiled, since that failed ({reason})")
            return False
        self.state.turns = turns
        return True

    def _try(self, turns: list[Turn], batch: Batch) -> None:
        """A loss and its gradient, of which nothing stays: what cannot be compiled is found out at the first call."""
        modules = (self.parts.model, self.parts.objective)
        before = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
        try:
            for turn in turns:
                with seeded_global(self.parts.device, 0), self.autocast():
                    loss = turn.loss(batch, StepNoise(self.parts.device, 0))
                loss.value.backward()
        finally:
            for parameter in self.state.parameters:
                parameter.grad = None
            for buffer, value in before:
                buffer.copy_(value)
