"""What is measured on training rows before anything is trained on them: what float32 would lose, and what repeats.

A coordinate's spread is the smaller of its deviation and of IQR / 1.349, so that a few values far away do not hide what
float32 does to all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.errors import quoted
from gencli.core.spec import Batch, Spec
from gencli.data.base import Split
from gencli.data.split import row_hashes

ROWS = 10_000
"""The most training rows on which any of this is measured, evenly spaced."""
NEGLIGIBLE = 1e-4
"""Of a spread: data stay in float64 where float32 would move a value further."""
TOLERABLE = 1e-3
"""Of a spread: further than this no value may be moved on its way to the model."""


_CHUNK = 4096
"""Rows at a time, where all are looked at."""


def chunks(split: Split) -> Iterator[Batch]:
    """All rows, some thousand at a time."""
    for index in torch.arange(len(split)).split(_CHUNK):
        yield split.gather(index)


def coordinate(k: int, names: Sequence[str] | None = None) -> str:
    """What messages call a coordinate: by its name, where there are some, else by its position."""
    return f"coordinate {k}" if names is None else f"column {quoted(names[k], 60)}"


def moments(
    split: Split,
    values: Callable[[Tensor], Tensor],
    spec: Spec,
    extra: float = 0.0,
    called: Callable[[int], str] = coordinate,
) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each coordinate of the training values, in float64; of discrete columns 0 and 1.

    Args:
        split: the training rows.
        values: x (B, *) in data space -> v in float64.
        spec: of the data.
        extra: variance that each coordinate has besides.
        called: what messages call a coordinate.

    Raises:
        ValueError: a coordinate is constant, or its variance is beyond float64.
    """
    total = torch.zeros(spec.shape, dtype=torch.float64)
    squares, n = torch.zeros_like(total), torch.zeros_like(total)
    # Two passes, because E v^2 - (E v)^2 cancels where the mean is large. Missing values of a column do not count.
    for batch in chunks(split):
        v = values(batch.x)
        total += v.masked_fill(v.isnan(), 0.0).sum(0)
        n += (~v.isnan()).sum(0)
    mean = total / n
    for batch in chunks(split):
        v = values(batch.x)
        squares += (v - mean).square().masked_fill(v.isnan(), 0.0).sum(0)
    variance = squares / n
    for d, support in enumerate(spec.support.columns):
        if not support.continuous:
            mean[d], variance[d] = 0.0, 1.0
    variance += extra
    constant = ~(variance > 0).flatten()
    if bool(variance.isinf().any()):
        raise ValueError("data.transform=standardize: the variance of the training data is beyond float64")
    if constant.any():
        column = int(constant.nonzero()[0])
        raise ValueError(f"data.transform=standardize: {called(column)} of the training data is constant")
    return mean, variance.sqrt()


def some_rows(split: Split) -> Batch:
    """At most ``ROWS`` rows, evenly spaced, on the CPU."""
    batch = split.gather(torch.arange(0, len(split), -(-len(split) // ROWS)))
    return Batch(batch.x.cpu(), None if batch.y is None else batch.y.cpu())


def spread(x: Tensor) -> Tensor:
    """The spread (D,) of rows (N, D) in float64; 0 of a constant coordinate. NaN, a missing value, has no say."""
    if x.isnan().any():
        there = [column[~column.isnan()][:, None] for column in x.T]
        return torch.cat([spread(column) if len(column) else column.new_zeros(1) for column in there])
    deviation = x.std(0, correction=0)
    ordered = x.sort(0).values
    quartiles = (ordered[3 * (len(x) - 1) // 4] - ordered[(len(x) - 1) // 4]) / 1.349
    return torch.where(quartiles > 0, torch.minimum(deviation, quartiles), deviation)


def moved(x: Tensor, other: Tensor) -> Tensor:
    """How far rounding took rows x (N, D), in float64, to the other ones: at most, in spreads of each coordinate (D,).

    A constant coordinate is not moved: nothing depends on where it is.
    """
    error, scale = (other.double() - x).abs().nan_to_num(0.0, torch.inf).amax(0), spread(x)
    return torch.where((error > 0) & (scale > 0), error / scale, torch.zeros_like(error))


def overflows(x: Tensor) -> bool:
    """Whether a value (N, *) is beyond float32 (3.4e38)."""
    parts = x.split(ROWS)  # of a large table, what is worked out on the way would take as much memory as the table
    return any(bool((part.float().isinf() & part.isfinite()).any()) for part in parts)


def needs_float64(x: Tensor) -> bool:
    """Whether float32 would overflow, or move a value (N, *) by more than a negligible part of its spread."""
    if x.dtype != torch.float64 or len(x) == 0:
        return False
    if overflows(x):
        return True
    rows = x[:: -(-len(x) // ROWS)].flatten(1)
    return bool((moved(rows, rows.float()) > NEGLIGIBLE).any())


@dataclass(frozen=True)
class Repeats:
    """How often values of real coordinates repeat: a density has no upper limit on values that do.

    A coordinate is discrete in truth if a quarter of the rows, five at least, have its commonest value, or if its
    distinct values are fewer than a twentieth of the rows. Rows repeat if three in ten are copies of others.

    Args:
        commonest: (D,) the value.
        share: (D,) of the rows that have it.
        distinct: (D,) number of distinct values.
        rows: on which this was counted.
        copies: share of all rows of D >= 2 coordinates that are copies of an earlier one.
    """

    commonest: Tensor
    share: Tensor
    distinct: Tensor
    rows: int
    copies: float

    @classmethod
    def of(cls, split: Split, reals: Tensor | None = None) -> Repeats:
        """Count on some rows of a split; copies on all of them.

        Args:
            split: of real data, or a table whose columns are of several kinds.
            reals: (D,) which columns of the table are reals, of which alone it is counted; no rows are copies then.
        """
        x = some_rows(split).x.flatten(1)
        x = x[: max(1000, 4_000_000 // x.shape[1])]
        ordered = x.sort(0).values
        new = torch.ones_like(ordered, dtype=torch.bool)
        new[1:] = ordered[1:] != ordered[:-1]
        row = torch.arange(len(x))[:, None].expand_as(ordered)
        longest, at = (row - torch.where(new, row, 0).cummax(0).values + 1).max(0)
        share, distinct = longest / len(x), new.sum(0)
        if reals is not None:
            share, distinct = share.where(reals, 0.0), distinct.where(reals, len(x))
        copies = _copies(split) if reals is None else 0.0
        return cls(ordered.gather(0, at[None])[0], share, distinct, len(x), copies)

    def packed(self) -> Tensor:
        """(D + 1, 3), for a checkpoint: a row for each coordinate, and one of what concerns all."""
        rows = torch.stack([self.commonest.float(), self.share.float(), self.distinct.float()], 1)
        return torch.cat([rows, torch.tensor([[self.rows, self.copies, 0.0]])])

    @classmethod
    def unpacked(cls, packed: Tensor) -> Repeats:
        """Undo ``packed``."""
        (commonest, share, distinct), last = packed[:-1].cpu().unbind(1), packed[-1].tolist()
        return cls(commonest, share, distinct, int(last[0]), last[1])

    @property
    def discrete(self) -> Tensor:
        """Coordinates (D,) that are discrete in truth."""
        return self._at_least(0.25) | (20 * self.distinct <= self.rows)

    def _at_least(self, share: float) -> Tensor:
        return (self.share >= share) & (self.share * self.rows > 4.5)

    def unbounded(self, called: Callable[[int], str] = coordinate) -> str | None:
        """Why the likelihood of these data has no limit, and what to do; None: it is no wonder."""
        which = self.discrete.nonzero()[:, 0].tolist()
        if not which and self.copies < 0.3:
            return None
        if not which:
            return (
                f"the likelihood has no upper limit: {self.copies:.0%} of the training rows are copies of others; "
                "leave copies out"
            )
        j = max(which, key=lambda k: float(self.share[k]))
        count, value = int(self.distinct[j]), f"{float(self.commonest[j]):.6g}"
        what = f"is {value} in {float(self.share[j]):.0%} of the training rows and has {count} distinct values"
        what = f"is constant ({value})" if count == 1 else what
        more = f" (and {len(which) - 1} more such coordinates)" if len(which) > 1 else ""
        return (
            f"the likelihood has no upper limit: {called(j)} {what}{more}; "
            "name what it is by data.support=binary, levels:K or categorical:K (one column by data.columns), or "
            "leave it out"
        )

    def rounded(self, called: Callable[[int], str] = coordinate) -> str | None:
        """A word about coordinates that repeat values, as rounded ones do; None: there are none."""
        repeat = (self._at_least(0.05) | (2 * self.distinct <= self.rows)) & ~self.discrete
        if not bool(repeat.any()):
            return None
        j = int(torch.where(repeat, self.distinct, self.rows).argmin())
        return (
            f"{int(repeat.sum())} of {len(repeat)} coordinates repeat values, as rounded data do: {called(j)} has "
            f"{int(self.distinct[j])} distinct values in {self.rows} rows"
        )


def _copies(split: Split) -> float:
    """The share of rows that are copies of an earlier one."""
    if split.gather(torch.arange(1)).x.numel() < 2:
        return 0.0
    return 1 - len(row_hashes(split, labels=False).unique()) / len(split)
