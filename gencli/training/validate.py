"""Validation: the objective's score of held-out examples, by which the best checkpoint is chosen."""

from __future__ import annotations

import math

import torch

from gencli.core import distributed
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.data.base import Split
from gencli.models.base import Model
from gencli.run.assembly import Parts
from gencli.run.folder import RunFolder
from gencli.run.record import bits_per_dim
from gencli.run.reporter import Reporter
from gencli.run.scoring import score_split
from gencli.training.state import State

WATCHED = 64
"""Rows on which a model looks for its own warning signs."""


class Validation:
    """Scores the validation split with the weights that are measured, and keeps the best.

    Args:
        split: validation examples, on the device of the parts.
        parts: whose objective scores.
        state: what is scored, and who the best is.
        folder: the run folder.
        reporter: gets the scores.
        world: this process among its peers, which share the examples.
        seed: the run's.
        batch_size: rows of a batch on this process.
        workers: processes that read a stream.
    """

    def __init__(
        self,
        split: Split,
        parts: Parts,
        state: State,
        folder: RunFolder,
        reporter: Reporter,
        world: distributed.World,
        *,
        seed: int,
        batch_size: int,
        workers: int,
    ) -> None:
        self.split, self.parts, self.state = split, parts, state
        self.folder, self.reporter, self.world = folder, reporter, world
        self.seed = stream(seed, Purpose.VALIDATION)
        self.batch_size, self.workers = batch_size, workers

    @torch.no_grad()
    def run(self) -> str:
        """Score, write ``best`` if it is; returns a note for the progress bar."""
        state, objective, per = self.state, self.parts.objective, self.parts.dataset.per
        model = state.measured()
        modules = (state.model, self.parts.preprocess, objective)
        for module in (model, self.parts.preprocess, objective):
            module.eval()
        value = self._score(model)
        values = {objective.score_name: value}
        if objective.score_name == "nll" and self.parts.dataset.spec.alike:
            values["bits_per_dim"] = bits_per_dim(
                value, self.parts.dataset.spec.dim if self.split.counts is None else 1
            )
        values |= self._health(model)
        for module in modules:
            module.train()

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
        bits = f"bits/{per}" if per else "bpd"
        told = f" ({values['bits_per_dim']:.3f} {bits})" if "bits_per_dim" in values else ""
        return f"val {objective.score_name} {value:.3f}{told}"

    def _score(self, model: Model) -> float:
        """The mean score of an example in data space, or of a symbol where rows are windows of a text."""
        objective, is_nll = self.parts.objective, self.parts.objective.score_name == "nll"
        scores = score_split(
            self.parts.preprocess,
            lambda batch, noise: objective.score(model, batch, noise),
            self.split,
            streams=[self.seed],
            device=self.parts.device,
            batch_size=self.batch_size,
            world=self.world,
            workers=self.workers,
        )
        every, counts, weights = scores.nll if is_nll else scores.terms["model"], self.split.counts, self.split.weights
        if weights is not None:
            every, counts = weights * every, weights * (1 if counts is None else counts)
        return float(every.mean() if counts is None else every.sum() / counts.sum())

    def _health(self, model: Model) -> dict[str, float]:
        """A model's own warning signs on a few rows, such as a flow's round-trip error."""
        count = min(WATCHED, len(self.split))
        ids = torch.arange(count, device=self.parts.device)
        batch, _ = self.parts.preprocess.batch(self.split.gather(ids).to(ids.device), RowNoise(self.seed, ids))
        return model.health(batch.x, batch.y)
