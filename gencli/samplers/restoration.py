"""Restorations of one observation: its likeliest x, and draws from the posterior."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.kernels.base import Kernel, Of
from gencli.methods import inverse
from gencli.methods.guidance import Informed
from gencli.methods.inverse import Observation
from gencli.methods.pushforward import pushed, transport
from gencli.models.base import DirectSampling, TimeField, Unnormalized
from gencli.models.subject import Subject
from gencli.samplers.diffusion.ddim import DDIM

CHAINS, EXAMPLES = 1, 3  # numbers of streams
APART = 1 << 20  # rows of noise of one example
FITTED = 10_000  # training examples of a covariance
MET = 1.1  # the largest R-hat that is left without a word


Found = tuple[dict[str, Tensor], dict[str, float], tuple[str, ...]]
"""Arrays by name, diagnostics, notes."""


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """One observation under one model; rows of it do not depend on each other.

    Args:
        subject: the model and its data.
        observed: z.
        y: contexts in model space, one a row of z; None: of an unconditional model.
    """

    subject: Subject
    observed: Observation
    y: Tensor | None

    def by_energy(self, kernel: Kernel[Any], *, chains: int, draws: int, warmup: int, steps: int) -> Found:
        """MAP, and draws by so many chains an example; no chains: MAP alone."""
        model, preprocess = self.subject.model, self.subject.preprocess
        assert isinstance(model, Unnormalized)
        likeliest, drawn, slopes = [], [], []
        said: list[tuple[int, dict[str, float]]] = []
        for some in self._parts(max(1, chains)):
            observed, starts = self.observed.rows(some), [self._start(some)]
            if chains:
                found, u = self._walk(some, kernel, chains, draws, warmup, steps, like=starts[0])
                drawn.append(self._values(u))
                said.append((len(observed.z), found.diagnostics))
                starts.append(u.mean(1))
            prior = partial(_energy, model, self._context(some, 1))
            best, slope = inverse.likeliest(prior, observed, starts)
            likeliest.append(preprocess.values(best))
            slopes.append(slope)
        arrays = {"map": torch.cat(likeliest)} | ({"draws": torch.cat(drawn)} if drawn else {})
        numbers = _joined(said) | {"map_gradient": float(torch.cat(slopes).max())}
        notes: tuple[str, ...] = ()
        if chains and not numbers["r_hat"] <= MET:  # NaN of fewer than four steps, too
            doubt = "deviation and coverage are not to be trusted; more sampler.warmup and sampler.steps"
            notes = (f"chains of an example have not met (R-hat {numbers['r_hat']:.2f}): {doubt}",)
        return arrays, numbers, notes

    def _walk(
        self, some: slice, kernel: Kernel[Any], chains: int, draws: int, warmup: int, steps: int, like: Tensor
    ) -> tuple[inverse.Chains, Tensor]:
        """Chains on some rows, and their draws in model space (n, k, *).

        They move in the noise of which samples are made, where there is such (``transport``); else in u.
        """
        model, observed = self.subject.model, self.observed.rows(some)
        assert isinstance(model, Unnormalized)
        y, noise = self._context(some, chains), self._noise(some, chains)
        n, way = chains * len(observed.z), transport(model, None if y is None else y[:1])
        prior: Of = partial(_energy, model, y)
        if way is None:
            start = model.start(n, y, noise=noise).to(like)
        else:
            observed = replace(observed, values=partial(_through, observed.values, way.density, y))
            prior, start = way.energy, noise.randn(n, way.width).to(like)
        found = inverse.walk(
            prior, observed, start, noise, kernel=kernel, each=chains, draws=draws, warmup=warmup, steps=steps
        )
        if way is None:
            return found, found.draws
        u = pushed(way.density, self._context(some, draws), found.draws.flatten(0, 1))
        return found, u.unflatten(0, (-1, draws))

    def guided(self, *, draws: int, steps: int) -> Found:
        """Draws by reverse diffusion that is told of z."""
        model = self.subject.model
        assert isinstance(model, TimeField)
        covariance, sampler = self._covariance(), DDIM(steps=steps, eta=1.0)
        found, nfe = [], 0.0
        for some in self._parts(draws):
            field = Informed(model, self.observed.rows(some).repeated(draws), covariance)
            y = self._context(some, draws)
            samples = sampler.sample(field, len(field.observed.z), y, self._noise(some, draws))
            found.append(self._values(samples.x.unflatten(0, (-1, draws))))
            nfe = samples.diagnostics["nfe"]
        note = "draws approximate the posterior: p(x_0 given x_t) is taken as normal on the way (guided diffusion)"
        return {"draws": torch.cat(found)}, {"nfe": nfe}, (note,)

    def _parts(self, each: int) -> Iterator[slice]:
        """Rows of z that are gone through at once, where each has so many rows of the model."""
        at_once = max(1, self.subject.batch_size // each)
        return (slice(start, start + at_once) for start in range(0, len(self.observed.z), at_once))

    def _noise(self, some: slice, each: int) -> Noise:
        """Noise of so many rows for each of some rows of z."""
        index = torch.arange(len(self.observed.z))[some]
        return self.subject.noise((index[:, None] * APART + torch.arange(each)).flatten(), CHAINS)

    def _context(self, some: slice, each: int) -> Tensor | None:
        """y of some rows, each so many times."""
        return None if self.y is None else self.y[some].repeat_interleave(each, 0)

    def _values(self, u: Tensor) -> Tensor:
        """(n, k, *) of model space in data's."""
        return self.subject.preprocess.values(u.flatten(0, 1)).unflatten(0, u.shape[:2])

    def _start(self, some: slice) -> Tensor:
        """What was observed, in its place in x, and as the model sees it."""
        preprocess, v = self.subject.preprocess, self.observed.operator.seen(self.observed.z[some])
        if preprocess.stochastic:
            v = ((v - preprocess.offset) / preprocess.width).floor().clamp(0, preprocess.levels - 1)
        elif preprocess.spec.support.kind == "unit":
            v = v.clamp(0, 1)
        u: Tensor = preprocess(v, self._noise(some, 1))[0]
        return u

    def _covariance(self) -> Tensor:
        """C (D, D) of training examples in model space."""
        subject = self.subject
        train = subject.dataset.split("train") or subject.split
        index = torch.arange(min(FITTED, len(train)))
        u, _ = subject.preprocess(train.gather(index).to(subject.device).x, subject.noise(index, EXAMPLES))
        return torch.cov(u.flatten(1).double().T).view(u[0].numel(), -1)


def _energy(model: Unnormalized, y: Tensor | None, u: Tensor) -> Tensor:
    return model.energy(u, y)


def _through(values: Callable[[Tensor], Tensor], model: DirectSampling, y: Tensor | None, eps: Tensor) -> Tensor:
    return values(pushed(model, y, eps))


def _joined(said: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Diagnostics of all examples: the worst of R-hat and ESS, means of the rest."""
    total = sum(n for n, _ in said)
    found = {key: sum(n * one[key] for n, one in said) / total for key in (said[0][1] if said else {})}
    worst = {"r_hat": max, "ess": min}
    return {key: worst[key](one[key] for _, one in said) if key in worst else value for key, value in found.items()}
