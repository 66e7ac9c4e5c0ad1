"""Validation: the objective's score of held-out examples, by which the best checkpoint is chosen."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from gencli.config.sections import TrainerOptions
from gencli.core import distributed
from gencli.core.bounds import nats
from gencli.core.errors import RunFailed
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.data.base import Split
from gencli.data.split import at_most, random_order
from gencli.models.base import Model
from gencli.run.assembly import Parts
from gencli.run.folder import RunFolder
from gencli.run.pace import plan
from gencli.run.progress import Bar
from gencli.run.record import bits_per_dim, negative
from gencli.run.reporter import Reporter
from gencli.run.scoring import Score, score_rows, score_split
from gencli.training.signals import StopRequest
from gencli.training.state import State

WATCHED = 64
"""Rows on which a model looks for its own warning signs."""

USUAL = 20
"""Validations of a training of which nothing tells yet how many there will be."""

SHORT = 2.0
"""Seconds that any validation may take."""


def seconds(options: TrainerOptions, used: float, spent: float, step: int, steps: int | None) -> float | None:
    """The share of one validation in the time that all of them may take; None: no bound.

    Args:
        options: the section ``trainer``.
        used: fraction of the budget of training.
        spent: seconds of training up to now.
        step: steps taken.
        steps: the number that bounds training, if there is one.
    """
    if used:
        training, count = spent / used, step / options.eval_every / used
    else:
        training, count = 60 * (options.max_minutes or 0.0), steps / options.eval_every if steps else USUAL
    budget = options.eval_seconds(training)
    return None if budget is None else max(SHORT, budget / max(1.0, count))


class Validation:
    """Scores the validation split with the weights that are measured, and keeps the best.

    Args:
        split: all validation examples, on the device of the parts.
        parts: whose objective scores.
        state: what is scored, and who the best is.
        folder: the run folder.
        reporter: gets the scores.
        world: this process among its peers, which share the examples.
        stop: a signal ends the scoring at once.
        seed: the run's.
        batch_size: rows of a batch on this process.
        workers: processes that read a stream.
        most: examples that are scored at most; None: all that time allows, the same at every validation.
    """

    def __init__(
        self,
        split: Split,
        parts: Parts,
        state: State,
        folder: RunFolder,
        reporter: Reporter,
        world: distributed.World,
        stop: StopRequest,
        *,
        seed: int,
        batch_size: int,
        workers: int,
        most: int | None,
    ) -> None:
        self.whole, self.parts, self.state = split, parts, state
        self.split = at_most(split, most)
        self.folder, self.reporter, self.world, self.stop = folder, reporter, world, stop
        self.seed = stream(seed, Purpose.VALIDATION)
        self.batch_size, self.workers = batch_size, workers

    @torch.no_grad()
    def run(self, bar: Bar, seconds: float | None) -> dict[str, str]:
        """Score, write ``best`` if it is; returns notes for the progress line.

        Args:
            bar: shows the progress.
            seconds: that it may take; None: as long as it takes.

        Raises:
            Interrupted: a signal came before all examples were scored; nothing has changed.
            RunFailed: the score is an NLL that cannot be.
        """
        state, objective, per = self.state, self.parts.objective, self.parts.dataset.per
        modules = (state.model, self.parts.preprocess, objective)
        for module in modules:
            module.eval()
        try:
            with state.measured() as model:
                with self._interruptible():
                    self._choose(model, seconds)
                    value = self._score(model, bar)
                health = self._health(model)
        finally:
            for module in modules:
                module.train()
        values = {objective.score_name: value}
        if objective.score_name == "nll" and self.parts.dataset.spec.alike:
            values["bits_per_dim"] = bits_per_dim(
                value, self.parts.dataset.spec.dim if self.split.counts is None else 1
            )
        values |= health
        state.due = False
        if math.isfinite(value) and (state.best is None or value < state.best[0]):
            state.best, state.stale = (value, state.step), 0
            state.save("best")
        else:
            state.stale += 1
        weights = "raw" if state.ema is None else "ema"
        self.reporter.metrics(state.step, "val", state.clock.seconds, weights, values)
        self.folder.update(
            progress={"step": state.step, "seconds": round(state.clock.seconds, 1)},
            best=None if state.best is None else {"step": state.best[1], objective.score_name: state.best[0]},
        )
        told = {"val": f"val {objective.score_name} {nats(value)}"}
        if "bits_per_dim" in values:
            told["bits"] = f"{nats(values['bits_per_dim'])} {f'bits/{per}' if per else 'bpd'}"
        return told

    def _interruptible(self) -> AbstractContextManager[None]:
        """Where a signal may end it at once: ranks that score together stop together, after it."""
        if self.world.size > 1:
            return nullcontext()
        return self.stop.raising(f"stopped at the validation after step {self.state.step}, saved")

    def _choose(self, model: Model, seconds: float | None) -> None:
        """Decide once how many examples are scored, by the time that a few of them take."""
        state, n = self.state, len(self.split)
        if state.validated is None and seconds is not None:
            order = random_order(n, n)
            found = plan(lambda rows: self._few(model, order[:rows]), n, self.batch_size, seconds, self.world.size)
            state.validated = distributed.share(found).rows
            if state.validated < n:
                self.reporter.say(f"validating on {found}, each time; trainer.eval_examples=null takes all")
        if state.validated is not None and state.validated < n:
            self.split = at_most(self.whole, state.validated)

    def _few(self, model: Model, ids: Tensor) -> None:
        """Score some rows, to see how long it takes."""
        batch = self.split.gather(ids).to(self.parts.device)
        score_rows(self.parts.preprocess, self._scorer(model), batch, ids.to(self.parts.device), [self.seed])

    def _scorer(self, model: Model) -> Score:
        return lambda batch, noise: self.parts.objective.score(model, batch, noise)

    def _score(self, model: Model, bar: Bar) -> float:
        """The mean score of an example in data space, or of a symbol where rows are windows of a text.

        Raises:
            RunFailed: it is the NLL of discrete data, and below 0.
        """
        objective, n = self.parts.objective, math.ceil(len(self.split) / self.world.size)
        scores = score_split(
            self.parts.preprocess,
            self._scorer(model),
            self.split,
            streams=[self.seed],
            device=self.parts.device,
            batch_size=self.batch_size,
            world=self.world,
            workers=self.workers,
            tick=lambda done: bar.note(f"validating {done:,}/{n:,}"),
        )
        nll = float(scores.nll.mean())
        if objective.score_name in ("nll", "nll_estimate") and negative(nll, 0.0, self.parts.dataset.spec):
            raise RunFailed(  # else what failed worst would be the best
                f"{objective.score_name} is {nll:.6g} nats in the validation after step {self.state.step}, but no NLL "
                f"of integers is negative: log Z is not known any more. {objective.advice()}"
            )
        every = scores.nll if objective.score_name == "nll" else scores.terms["model"]
        counts, weights = self.split.counts, self.split.weights
        if weights is not None:
            every, counts = weights * every, weights * (1 if counts is None else counts)
        return float(every.mean() if counts is None else every.sum() / counts.sum())

    def _health(self, model: Model) -> dict[str, float]:
        """A model's own warning signs on a few rows, such as a flow's round-trip error."""
        count = min(WATCHED, len(self.split))
        ids = torch.arange(count, device=self.parts.device)
        batch, _ = self.parts.preprocess.batch(self.split.gather(ids).to(ids.device), RowNoise(self.seed, ids))
        return model.health(batch.x, batch.y)
