"""Which parameters an observation came from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.files import named
from gencli.core.integers import require_held
from gencli.core.noise import mix_seed
from gencli.core.options import Count
from gencli.data.table_files import read
from gencli.data.task import Task
from gencli.methods.posteriors import posteriors, reference, task_of
from gencli.models.base import Model, Unnormalized
from gencli.models.subject import Subject
from gencli.samplers.base import Answer, Question


@dataclass(frozen=True, kw_only=True)
class Posterior(Question[Model]):
    """theta given an observation, by a model of p(theta given x), or by chains on p(x given theta) or on p(theta, x).

    Draws of the true posterior are beside them where it is known, and the theta that made the observation.

    Args:
        observed: the number of one of the data's ten observations, or a file: npy of C numbers, npz with them, or a
            table of one row.
        steps: recorded steps of chains, of which the last points are the draws.
    """

    option = "posterior"
    picture = "corner"
    usual_n = 1000

    observed: int | str = 0
    steps: Count = 50

    def answer(self, subject: Subject, n: int) -> Answer:
        task = task_of(subject)
        x, truth = self._observation(subject, task)
        drawn = posteriors(subject, x[None], n, steps=self.steps)
        arrays = {"posterior": drawn.theta[0], "observed": x}
        generator = torch.Generator().manual_seed(mix_seed(subject.seed, 1))
        exact = reference(task, x, n, generator)
        if exact is not None:
            arrays["reference"] = exact
        if truth is not None:
            arrays["truth"] = truth
        notes = []
        for d, name in enumerate(task.parameter_names):
            draws = arrays["posterior"][:, d]
            line = f"{name}: {_number(draws.mean())} ± {_number(draws.std())}"
            line += (
                f", reference {_number(exact[:, d].mean())} ± {_number(exact[:, d].std())}" if exact is not None else ""
            )
            notes.append(line + (f", truth {_number(truth[d])}" if truth is not None else ""))
        constant = isinstance(subject.model, Unnormalized)  # is all that an estimate of log Z can be wrong by
        if subject.dataset.target != "parameters" and subject.bound != "exact" and not constant:
            notes.append(
                f"the likelihood is {_article(subject.bound)} of the model's, and so the posterior is not its own"
            )
        return Answer(arrays, drawn.diagnostics, tuple(notes))

    def _observation(self, subject: Subject, task: Task) -> tuple[Tensor, Tensor | None]:
        """x (C,), and the theta that made it, where that is known."""
        text = str(self.observed)
        if re.fullmatch(r"\d+", text):
            if subject.dataset.observations is None:
                raise ValueError(
                    f"sampler.observed={text}: data={subject.dataset.name} has none of its own; give a file"
                )
            theta, x = subject.dataset.observations
            if int(text) >= len(x):
                raise ValueError(f"sampler.observed={text}: 0 to {len(x) - 1}, or a file")
            return x[int(text)], theta[int(text)]
        x = _read(text, subject).reshape(-1)
        if len(x) != task.observed:
            raise ValueError(
                f"sampler.observed={quoted(text)} holds {len(x)} numbers; an observation has {task.observed}"
            )
        if not bool(x.isfinite().all()):
            raise ValueError(f"sampler.observed={quoted(text)} holds a number that is not finite")
        return x, None


def _number(value: Tensor) -> str:
    return f"{float(value):.4g}"


def _article(bound: str) -> str:
    return {"upper": "a lower bound", "lower": "an upper bound"}.get(bound, "an estimate")


def _read(text: str, subject: Subject) -> Tensor:
    """The numbers of a file, as float64."""
    path = named(text, "sampler.observed=")
    if not Path(path).is_file():
        raise ValueError(f"sampler.observed={quoted(text, 200)}: there is no such file; or 0 to 9 for the data's own")
    if path.suffix in (".npy", ".npz"):
        try:
            found = np.load(path, allow_pickle=False)
            if not isinstance(found, np.ndarray):
                with found as arrays:
                    found = arrays["observed" if "observed" in arrays.files else arrays.files[0]]
            require_held(found, f"sampler.observed={quoted(text, 200)}")
            return torch.from_numpy(found.astype(np.float64))
        except UsageError:
            raise
        except Exception as error:  # of numpy, zipfile and zlib over a damaged file
            raise ValueError(
                f"sampler.observed={quoted(text, 200)} is no array of numbers: {quoted(error, 200)}"
            ) from error
    table = read(path, names=(), key="sampler.observed")
    rows = np.stack([table.numbers(name) for name in table.columns], 1)
    if len(rows) != 1:
        raise UsageError(f"sampler.observed={quoted(text, 200)} has {len(rows)} rows; 1 is needed")
    return torch.from_numpy(rows.astype(np.float64))
