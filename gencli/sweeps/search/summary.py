"""What a search says in the end: the best trials, the chosen configuration, its number on the test split."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.table import Table
from rich.text import Text

from gencli.core.bounds import SIGNS, nats
from gencli.core.errors import quoted
from gencli.report.sheet import terminal
from gencli.sweeps.progress import headline
from gencli.sweeps.search.trials import Trials, job_of, relative, result_of, short_value
from gencli.sweeps.table import Display

BEST = 10
"""Trials that the table shows."""

_STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
}


def tell(trials: Trials, where: str, display: Display) -> None:
    """Print it.

    Args:
        trials: of the search.
        where: its storage.
        display: gets lines.
    """
    options, study = trials.search.options, trials.study
    if trials.done:
        terminal().print(table(trials))
    counts = Counter(_STATES[trial.state] for trial in study.get_trials(deepcopy=False) if trial.state in _STATES)
    told = ", ".join(f"{counts[state]} {state}" for state in _STATES.values() if counts[state])
    display.say(
        f"{sum(counts.values())} of {trials.total} trials: {told}; search={options.sampler}, seed {options.seed}"
    )
    display.say(f"study {study.study_name} in {quoted(_without_password(where), 300)}")
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        cause = trial.user_attrs.get("cause", "its process ended before it could say why")
        display.say(f"  trial {trial.number} failed: {quoted(cause, 300)}")
    if trials.hopeless:
        display.say("nothing but failures: the search ends here")
    if trials.elsewhere:
        where_else = sorted({str(job_of(trial).get("host")) for trial in trials.elsewhere})
        display.say(f"{len(trials.elsewhere)} trials run elsewhere ({quoted(', '.join(where_else), 200)})")
    if trials.chosen is not None:
        _tell_chosen(trials, trials.chosen, display)
    elif trials.done:
        display.say("several objectives choose no trial, and the test split is not measured; better in one of them:")
        for trial in study.best_trials[:BEST]:
            display.say(f"  trial {trial.number}: {command(trials, trial)}")


def _tell_chosen(trials: Trials, chosen: FrozenTrial, display: Display) -> None:
    attrs = result_of(chosen)
    display.say(
        f"best on validation: trial {chosen.number}, {quoted(relative(job_of(chosen).get('run')), 300)}", "bold"
    )
    display.say(f"  {command(trials, chosen)}")
    for doubt in _doubts(trials, attrs):
        display.say(f"  warning: {doubt}", "yellow")
    if trials.test is not None:
        display.say(f"  {headline(trials.test.record)}", "bold")
    else:
        display.say("  its test split is not measured")


def _doubts(trials: Trials, attrs: dict[str, Any]) -> list[str]:
    """What speaks against the choice."""
    found = []
    if attrs.get("bound") is None:
        found.append("this model has no NLL: trials were compared by the score that training validates by")
    elif attrs["bound"] not in ("exact", "upper"):
        found.append("its validation NLL is no upper bound: a search may have chosen the estimator's error")
    if len({result_of(trial).get("n_examples") for trial in trials.done}) > 1:
        found.append("trials measured different numbers of examples; trainer.eval_examples=N gives all the same ones")
    return found


def command(trials: Trials, trial: FrozenTrial) -> str:
    """The command that trains a configuration again, with the test split measured."""
    values = [f"{space.key}={trial.params[space.key]}" for space in trials.search.spaces]
    return shlex.join(["gencli", "train", *trials.search.fixed, *values])


def table(trials: Trials) -> Table:
    """The best trials, a row each."""
    names = trials.search.options.objectives
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("trial", *(_head(trials, name) for name in names), "steps"):
        shown.add_column(Text(head), justify="right", no_wrap=True)
    for space in trials.search.spaces:
        shown.add_column(Text(quoted(space.key.rpartition(".")[2])), overflow="ellipsis", no_wrap=True)
    for trial in trials.done[:BEST]:
        attrs = result_of(trial)
        values = [_number(name, value, attrs) for name, value in zip(names, trial.values, strict=True)]
        params = [quoted(short_value(trial.params[space.key])) for space in trials.search.spaces]
        shown.add_row(str(trial.number), *values, str(attrs.get("steps") or ""), *(Text(param) for param in params))
    return shown


def _head(trials: Trials, name: str) -> str:
    if name != "nll":
        return {"parameters": "parameters", "sampling_seconds": "sampling"}[name]
    return f"validation, {quoted(result_of(trials.done[0]).get('unit') or 'score')}"


def _number(name: str, value: float, attrs: dict[str, Any]) -> str:
    if name == "parameters":
        return f"{value:,.0f}"
    if name == "sampling_seconds":
        return f"{value:.3g}s"
    error, bits = attrs.get("se"), attrs.get("bits_per_dim")
    sign = SIGNS.get(str(attrs.get("bound")), "")  # a score of training is no NLL
    told = f"{sign} {nats(value)}".strip()
    told += f" ±{nats(error)}" if isinstance(error, float) else ""
    return told + (f" ({nats(bits)} bits/dim)" if isinstance(bits, float) else "")


def _without_password(where: str) -> str:
    from sqlalchemy.engine import make_url

    return make_url(where).render_as_string(hide_password=True) if "://" in where else where
