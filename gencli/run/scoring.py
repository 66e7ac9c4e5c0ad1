"""From examples in data space to nats: the one way of validation, records, ``Run.log_prob`` and pictures.

    NLL(x) = score(z) + sum of the terms of preprocessing,    z = T(x, u)

The noise u of an example is a function of a seed and its id, its position in the split; so its nats depend neither on
the batch size nor on the number of processes, and are the same wherever it is scored with the same streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gencli.core import distributed
from gencli.core.errors import Interrupted
from gencli.core.noise import Noise, Purpose, RowNoise, stream
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.data.loading import held_out_batches
from gencli.data.preprocess import Preprocess
from gencli.estimators.base import Estimate

LEAST = 10
"""Scored rows without which a pass that was stopped gives no number."""

Score = Callable[[Batch, Noise], Tensor | Estimate]
"""A batch in model space -> nats a row (B,): an estimator's ``nll``, an objective's ``score``, an energy."""


@dataclass(frozen=True)
class Scores:
    """Rows in data space, float64 on the CPU.

    Args:
        nll: (N,) nats.
        terms: (N,) nats by name, the model's first, which add up to nll.
        variance: (N,) of nll, due to the estimator and its draws; None: it is unknown.
        diagnostics: (N,) by name.
        stopped: what ended the pass over a split early; rows are those that were scored until then.
    """

    nll: Tensor
    terms: dict[str, Tensor]
    variance: Tensor | None = None
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    stopped: BaseException | None = None


def held_out_streams(seed: int, draws: int) -> list[int]:
    """The streams of noise of a record: one for each draw of the dequantization."""
    return [stream(seed, Purpose.HELD_OUT, draw) for draw in range(draws)]


@torch.no_grad()
def score_rows(preprocess: Preprocess, score: Score, batch: Batch, ids: Tensor, streams: Sequence[int]) -> Scores:
    """Score rows in data space: the mean over draws of the dequantization, whose spread gives the variance.

    Args:
        preprocess: data space -> model space.
        score: what is measured in model space.
        batch: B rows.
        ids: (B,) positions in their split, which name their noise.
        streams: a stream of noise for each draw; the first is enough where preprocessing draws nothing.
    """
    draws = [
        _draw(preprocess, score, batch, RowNoise(stream, ids))
        for stream in (streams if preprocess.stochastic else streams[:1])
    ]
    nll = torch.stack([draw.nll for draw in draws])
    variance = draws[0].variance
    if preprocess.stochastic:  # one draw says nothing of the spread of its like
        variance = nll.var(0) / len(draws) if len(draws) > 1 else None
    terms, diagnostics = (_mean([getattr(draw, part) for draw in draws]) for part in ("terms", "diagnostics"))
    return Scores(nll.mean(0), terms, variance, diagnostics)


def _draw(preprocess: Preprocess, score: Score, batch: Batch, noise: Noise) -> Scores:
    """Preprocess, score, add the ledger."""
    batch, ledger = preprocess.batch(batch, noise)
    found = score(batch, noise)
    estimate = found if isinstance(found, Estimate) else Estimate(found)
    parts = {f"model, {name}": value for name, value in estimate.parts.items()} or {"model": estimate.nll}
    terms = {name: value.cpu().double() for name, value in {**parts, **ledger}.items()}
    diagnostics = {name: value.cpu().double() for name, value in estimate.diagnostics.items()}
    variance = None if estimate.variance is None else estimate.variance.cpu().double()
    return Scores(torch.stack([*terms.values()]).sum(0), terms, variance, diagnostics)


def _mean(draws: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([draw[name] for draw in draws]).mean(0) for name in draws[0]}


def score_split(
    preprocess: Preprocess,
    score: Score,
    split: Split,
    *,
    streams: Sequence[int],
    device: torch.device,
    batch_size: int,
    world: distributed.World | None = None,
    workers: int | None = None,
    order: Tensor | None = None,
    tick: Callable[[int], None] = lambda done: None,
) -> Scores:
    """Score every example of a split, in order of example.

    Args:
        preprocess: data space -> model space.
        score: what is measured in model space.
        split: the examples.
        streams: as in ``score_rows``.
        device: where the model lies.
        batch_size: rows at a time.
        world: this process among its peers; None: alone.
        workers: processes that read a stream.
        order: (N,) in which examples are scored, of which any beginning stands for the whole: one process that is
            stopped gives what it has; None: as they are, and a stop leaves nothing.
        tick: told after every batch how many rows this process has scored.

    Raises:
        Interrupted: a signal came before there were enough rows to go by.
        RuntimeError: ranks did not see each example exactly once.
    """
    world = world or distributed.World()
    pieces: list[dict[str, Tensor]] = []
    stopped, done = None, 0
    try:
        for ids, batch in held_out_batches(
            split, batch_size, rank=world.rank, world=world.size, device=device, workers=workers, order=order
        ):
            pieces.append(_columns(ids, score_rows(preprocess, score, batch, ids, streams)))
            done += len(ids)
            tick(done)
    except (Interrupted, KeyboardInterrupt) as stop:
        if order is None or world.size > 1 or sum(len(piece["ids"]) for piece in pieces) < LEAST:
            raise
        stopped = stop

    parts = [part for part in distributed.gather(_joined(pieces)) if part]
    whole = _joined(parts)
    by_id = whole["ids"].argsort()
    whole = {name: values[by_id] for name, values in whole.items()}
    if not stopped and not torch.equal(whole["ids"], torch.arange(len(split))):
        raise RuntimeError("some example was scored twice or not at all")
    return Scores(whole["nll"], _with("term/", whole), whole.get("variance"), _with("diagnostic/", whole), stopped)


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Columns of all parts, one after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def _columns(ids: Tensor, scores: Scores) -> dict[str, Tensor]:
    """What processes exchange."""
    columns = {"ids": ids.cpu(), "nll": scores.nll}
    columns |= {f"term/{name}": values for name, values in scores.terms.items()}
    columns |= {f"diagnostic/{name}": values for name, values in scores.diagnostics.items()}
    return columns if scores.variance is None else {**columns, "variance": scores.variance}


def _with(prefix: str, columns: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): values for name, values in columns.items() if name.startswith(prefix)}
