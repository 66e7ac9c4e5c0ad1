"""Configurations that were trained with several seeds: one row each, with the errors over seeds and examples apart.

With a_si the nats of example i under seed s of configuration a,

    mean          m_a = mean_s mean_i a_si
    se_seeds      sd_s(mean_i a_si) / sqrt(S_a): what another seed would change
    se_examples   of mean_i (mean_s a_si): what another test set would change

and of the difference to the best configuration b likewise, with se_seeds^2 = se_seeds(a)^2 + se_seeds(b)^2 and
se_examples that of the paired differences mean_s a_si - mean_s b_si. Its p value is two-sided, by Student's t with the
degrees of freedom of Welch and Satterthwaite, and adjusted by Holm's method for the number of configurations that stand
against the best.

References:
    Welch, "The generalization of 'Student's' problem when several different population variances are involved", 1947;
    Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from gencli.config import stored
from gencli.config.sections import PLACE
from gencli.core.errors import UsageError, near, quoted
from gencli.core.uncertainty import combined
from gencli.report.collect import Row, one_a_run, own_nll
from gencli.report.compare import Scores, mean_error, outlier, paired

Flat = Mapping[str, Any]
"""A config by dotted keys."""

LEFT_OUT = (*PLACE, "seed", "n", "typed", "trainer.eval_batch_size")
"""Keys, dotted, that say nothing of what was trained."""

TELLING = ("model", "data", "objective", "experiment", "optimizer", "sampler", "estimator")
"""Groups whose choices name a configuration before anything else."""

SIGNIFICANT = 0.05


@dataclass
class Entry:
    """A configuration, and its runs of several seeds.

    ``difference`` and its errors are to the best entry of the table; ``p`` is adjusted by Holm's method. Errors are
    None where nothing is known of them: over seeds that of one seed.
    """

    name: str
    rows: list[Row]
    config: Flat
    rank: int | None = None
    difference: float | None = None
    difference_se: float | None = None
    p: float | None = None

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return sum(row.value for row in self.rows) / len(self.rows)

    @property
    def bound(self) -> str:
        """What the mean is to the NLL: the bound that all runs have, else an estimate."""
        bounds = {str(row.record.get("bound")) for row in self.rows}
        if bounds <= {"exact", "upper"}:
            return "exact" if bounds == {"exact"} else "upper"
        return bounds.pop() if len(bounds) == 1 else "estimate"

    @property
    def certain(self) -> bool:
        """Whether this number can say that a configuration is better."""
        return all(row.certain for row in self.rows)

    @property
    def se_seeds(self) -> float | None:
        """Standard error over seeds."""
        n = len(self.rows)
        if n < 2 or not math.isfinite(self.value):
            return None
        return math.sqrt(sum((row.value - self.value) ** 2 for row in self.rows) / (n - 1) / n)

    @property
    def se_shared(self) -> float | None:
        """Standard error of the mean of what all examples of a run share, such as log Z; seeds have one each."""
        found = [row.record.get("se_shared") or 0.0 for row in self.rows]
        return math.hypot(*found) / len(found) if any(found) else None

    @property
    def se_at_least(self) -> bool:
        """Whether errors are lower limits."""
        return any(row.se_at_least for row in self.rows)

    @property
    def se_examples(self) -> float | None:
        """Standard error over examples, with what they share."""
        if self.scores is None:  # seeds share the examples, so that their mean has about the error of one
            errors = [row.se for row in self.rows]
            return None if any(error is None for error in errors) else max(e for e in errors if e is not None)
        return combined(mean_error(self.scores).value, self.se_shared)

    @cached_property
    def scores(self) -> Scores | None:
        """Arrays of the examples that all runs have, their nats averaged over seeds; None: a run kept none."""
        import numpy as np

        kept = [row.scores for row in self.rows if row.scores is not None]
        if len(kept) < len(self.rows):
            return None
        ids = kept[0]["ids"]
        if all(np.array_equal(one["ids"], ids) for one in kept):
            return {**kept[0], "nll": np.mean([one["nll"].astype(float) for one in kept], axis=0)}
        for one in kept[1:]:
            ids = np.intersect1d(ids, one["ids"])
        places = [np.intersect1d(ids, one["ids"], return_indices=True)[2] for one in kept]
        nats = np.mean([one["nll"][at].astype(float) for one, at in zip(kept, places, strict=True)], axis=0)
        return {key: values[places[0]] for key, values in kept[0].items()} | {"nll": nats}

    @property
    def outlier(self) -> int | None:
        """The example that carries the mean; None: no one does."""
        return None if self.scores is None else outlier(self.scores)


def entries(
    rows: Sequence[Row], keys: Sequence[str], chosen: str | None = None, known: Mapping[Path, Flat] | None = None
) -> list[Entry]:
    """Rows of one comparable group as configurations, the best first.

    Args:
        rows: of one group.
        keys: of the config, whose values tell configurations apart; none: all keys but the seed and what does not
            matter to the numbers.
        chosen: ``validation``: where runs of equal values differ in more than the seed, the configuration with the
            lowest mean on the validation split stands for them; None: that is refused.
        known: configs of the runs (``flat``), where they have been read.

    Raises:
        UsageError: a key that no config has; or runs that differ in more than the seed, and no way to choose.
    """
    flats = known or {run: flat(run) for run in dict.fromkeys(row.run for row in rows)}
    every = sorted({key for one in flats.values() for key in one})
    for key in keys:
        if key == "seed":
            raise UsageError("--group-by seed: runs of several seeds are averaged; --group-by config does it")
        if key not in every:
            close = difflib.get_close_matches(key, [*every, "config"], n=3, cutoff=0.5)
            hint = near(key, close) if close else "config (each configuration), or keys such as model,optimizer.lr"
            raise UsageError(f"--group-by {quoted(key)}: no run has this key. {hint}")
    same: dict[str, list[Row]] = {}
    for row in rows:
        same.setdefault(_text(flats[row.run], ()), []).append(row)
    whole = [Entry("", _one_a_seed(some), flats[some[0].run]) for some in same.values()]
    if keys:
        by_value: dict[str, list[Entry]] = {}
        for entry in whole:
            by_value.setdefault(_text(entry.config, keys), []).append(entry)
        whole = [_choose(some, keys, chosen) for some in by_value.values()]
    names = _names([entry.config for entry in whole], keys)
    for entry, name in zip(whole, names, strict=True):
        entry.name = name
    _rank(whole)
    return whole


def flat(run: Path) -> dict[str, Any]:
    """What a run was trained with, by dotted keys, without what does not matter to its numbers."""
    try:
        config = stored.config(run)
    except UsageError:
        return {"run": str(run)}
    found: dict[str, Any] = {}

    def walk(node: Any, path: str) -> None:
        if path in LEFT_OUT:
            return
        if isinstance(node, Mapping) and node:
            for key, value in node.items():
                walk(value, f"{path}.{key}" if path else str(key))
        else:
            found[path.removeprefix("choices.")] = node

    walk(config, "")
    return found


def _text(config: Flat, keys: Sequence[str]) -> str:
    return "\n".join(f"{key}={config.get(key)!r}" for key in (keys or sorted(config)))


def _one_a_seed(rows: Sequence[Row]) -> list[Row]:
    """The own number of the newest run of each seed: a configuration that was run again is counted once."""
    seeds: dict[Any, list[Row]] = {}
    for row in one_a_run(rows):
        seeds.setdefault(row.info.get("seed", row.record.get("seed")), []).append(row)
    return [max(some, key=lambda row: (_begun(row), str(row.run))) for some in seeds.values()]


def _begun(row: Row) -> float:
    """When the run of a record was begun, in seconds; before all others where its run.json does not tell."""
    try:
        return datetime.fromisoformat(str(row.info.get("started"))).timestamp()
    except (ValueError, OverflowError, OSError):
        return -math.inf


def _choose(some: list[Entry], keys: Sequence[str], chosen: str | None) -> Entry:
    """The configuration that stands for those of equal values."""
    if len(some) == 1:
        return some[0]
    differ = differing([entry.config for entry in some])
    if chosen is None:
        values = ", ".join(f"{key}={some[0].config.get(key)}" for key in keys)
        raise UsageError(
            f"--group-by {','.join(keys)}: runs with {values} differ in {', '.join(differ[:4])} too: add such keys, or "
            "--best validation, which takes the configuration that is best on the validation split"
        )
    scored = [(score, entry) for entry in some if (score := _validation(entry)) is not None]
    if not scored:
        raise UsageError(f"--best validation: {some[0].rows[0].run} has no record on split=val; gencli eval makes one")
    return min(scored, key=lambda pair: pair[0])[1]


def _validation(entry: Entry) -> tuple[bool, float] | None:
    """The runs' own NLLs on the validation split: whether one cannot say what is better, such as a lower bound; mean.

    None where a run has none.
    """
    found = [own for row in entry.rows if (own := own_nll(row.run, "val")) is not None]
    if len(found) < len(entry.rows):
        return None
    return not all(row.certain for row in found), sum(row.value for row in found) / len(found)


def differing(configs: Sequence[Flat]) -> list[str]:
    """Keys in which configs differ, the telling ones first: choices of groups, then short keys."""
    every = dict.fromkeys(key for config in configs for key in config)
    found = [key for key in every if len({repr(config.get(key)) for config in configs}) > 1]

    def place(key: str) -> tuple[int, bool, bool, int]:
        first = TELLING.index(key) if key in TELLING else len(TELLING)
        return first, "." in key, key.endswith("_target_"), len(key)

    return sorted(found, key=place)


def telling(configs: Sequence[Flat]) -> list[str]:
    """Of the keys in which configs differ those that do not follow from the ones before them."""
    kept: list[str] = []
    for key in differing(configs):
        before = {_text(config, kept) for config in configs} if kept else {""}
        if len({_text(config, [*kept, key]) for config in configs}) > len(before):
            kept.append(key)
    return kept


def swept(configs: Sequence[Flat]) -> list[str]:
    """Of the keys in which configs differ those that were chosen: no part of a group's choice, and no twin of another.

    A sweep over random numbers has no two values alike, so that the first of its keys tells all others (``telling``).
    """
    found = differing(configs)
    kept = [key for key in found if key in TELLING]
    chosen = [_text(config, kept) if kept else "" for config in configs]
    seen = set()
    for key in found:
        values = [repr(config.get(key)) for config in configs]
        places = tuple(values.index(value) for value in values)
        if key not in kept and len({*zip(chosen, values, strict=True)}) > len({*chosen}) and places not in seen:
            kept.append(key)
        seen.add(places)
    return kept


def _names(configs: Sequence[Flat], keys: Sequence[str]) -> list[str]:
    """What tells each from the others: the keys asked for, then those that do not follow from each other."""
    if len(configs) == 1 and not keys:
        return [f"model={configs[0].get('model')}" if configs[0].get("model") else str(configs[0].get("run"))]
    taken = [*keys, *(key for key in telling(configs) if key not in keys)] if len(configs) > 1 else list(keys)
    return [" ".join(f"{key}={_short(config.get(key))}" for key in taken) for config in configs]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rank(table: list[Entry]) -> None:
    """Order entries, best first, and measure each against the best."""
    sign = -1 if table and not table[0].rows[0].is_nll and table[0].rows[0].record.get("better") == "higher" else 1
    table.sort(key=lambda entry: (not entry.certain, sign * entry.value))
    best, compared = table[0], []
    for rank, entry in enumerate(table, start=1):
        entry.rank = rank if entry.certain else None
        if entry is best or not (math.isfinite(entry.value) and math.isfinite(best.value)):
            continue
        entry.difference = entry.value - best.value
        parts = _parts(entry, best)
        if parts:
            entry.difference_se = math.sqrt(sum(variance for variance, _ in parts))
        least = entry.se_at_least or best.se_at_least  # of which no p follows
        if entry.certain and best.certain and entry.difference_se and not least:
            entry.p = _p_value(entry.difference / entry.difference_se, parts)
            compared.append(entry)
    holm(compared)


def _parts(entry: Entry, best: Entry) -> list[tuple[float, float]]:
    """Variances of the difference with their degrees of freedom: examples, seeds, and what all examples share."""
    parts = []
    if entry.scores is not None and best.scores is not None and entry.rows[0].is_nll:
        both = paired(entry.scores, best.scores)
        error = mean_error(both)
        if error.value is not None:
            parts.append((error.value**2, (error.blocks or len(both["nll"])) - 1.0))
        parts += [(e.se_shared**2, math.inf) for e in (entry, best) if e.se_shared is not None]
    else:
        parts += [(e.se_examples**2, math.inf) for e in (entry, best) if e.se_examples is not None]
    parts += [(e.se_seeds**2, len(e.rows) - 1.0) for e in (entry, best) if e.se_seeds is not None]
    return [(variance, dof) for variance, dof in parts if dof > 0]


def _p_value(t: float, parts: Sequence[tuple[float, float]]) -> float:
    """Two-sided, with the degrees of freedom (sum v)^2 / sum v^2 / dof."""
    from scipy.special import stdtr

    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / dof for variance, dof in parts)
    dof = total**2 / spread if spread > 0 else 1e9
    return float(2 * stdtr(min(dof, 1e9), -abs(t)))


def holm(table: Sequence[Entry]) -> None:
    """Adjust p values for their number: the k-th smallest of m times m - k, and no smaller than those before it."""
    floor = 0.0
    for k, entry in enumerate(sorted(table, key=lambda entry: entry.p or 0.0)):
        assert entry.p is not None
        floor = max(floor, min(1.0, entry.p * (len(table) - k)))
        entry.p = floor
