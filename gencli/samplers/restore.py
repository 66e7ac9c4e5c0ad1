"""What data were before z = A x + noise: restoration with a trained model for prior.

x are the values that preprocessing gives the model: reals as they are; of integers o + (x + u) w, in [0, 1] for images.
Observation, noise and answer are in this unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch

from gencli.core.files import named
from gencli.core.options import Count, Natural, Positive, Range
from gencli.core.regions import region
from gencli.core.tensors import frozen
from gencli.kernels.base import Kernel, require_moves
from gencli.kernels.hmc import HMC
from gencli.methods import image_quality, operators
from gencli.methods.inverse import Observation
from gencli.models.base import Model, TimeField, Unnormalized
from gencli.models.subject import Subject
from gencli.models.trained import Learned
from gencli.samplers.base import Answer, Question
from gencli.samplers.observed import array, degraded, from_file
from gencli.samplers.restoration import Restoration
from gencli.samplers.restored import quality

NOISE = 0  # the number of its stream


@dataclass(frozen=True, kw_only=True)
class Restore(Question[Model]):
    """The posterior of x given z = A x + noise with a trained model for prior, and its greatest density.

    A model with an energy or a likelihood of reals has both, u in its own space: MAP, the argmin of
    |z - A x(u)|^2 / (2 noise^2) + E(u), and draws by chains on the same. A field whose score is valid has draws by
    guided reverse diffusion, which is an approximation.

    Args:
        task: A: ``denoise`` (x itself), ``inpaint`` (x where it is ``given``), ``deblur``, ``superresolve`` (means of
            blocks), ``matrix``.
        noise: deviation of the noise, in the unit of x: of the range [0, 1] for images of integers.
        given: of ``inpaint``: what is seen, a region of images or a list of a vector's coordinates.
        blur: of ``deblur``: ``gaussian`` or ``box``; edges are mirrored.
        width: of the blur in pixels: the deviation of a Gaussian, the side of a box.
        factor: of ``superresolve``: side of a block in pixels.
        matrix: of ``matrix``: a file ``.npy`` with A (m, D).
        input: an observation of your own, an image or ``.npy``; None: held-out examples, degraded.
        method: ``chain`` (with MAP), ``map`` alone, ``guided``; ``auto``: the first that the model can.
        draws: from the posterior for each example; mean, deviation and interval are theirs.
        chains: chains an example.
        warmup: steps before those that are kept.
        steps: of each chain, from which draws are kept evenly; of the reverse diffusion.
        kernel: of the chains; None: Hamiltonian Monte Carlo.

    Raises:
        ValueError: options do not fit each other; names the key.

    References:
        Venkatakrishnan, Bouman and Wohlberg, "Plug-and-play priors for model based reconstruction", 2013; Kadkhodaie
        and Simoncelli, "Stochastic solutions for linear inverse problems using the prior implicit in a denoiser", 2021.
    """

    option = "restore"
    supports = ("real",)

    task: Literal["denoise", "inpaint", "deblur", "superresolve", "matrix"] = "denoise"
    noise: Positive = 0.1
    given: str | list[int] | None = None
    blur: Literal["gaussian", "box"] = "gaussian"
    width: Positive = 1.0
    factor: Annotated[int, Range(low=2)] = 2
    matrix: str | None = None
    input: str | None = None
    method: Literal["auto", "map", "chain", "guided"] = "auto"
    draws: Annotated[int, Range(low=19)] = 32
    chains: Annotated[int, Range(low=2)] = 8
    warmup: Natural = 200
    steps: Count = 200
    kernel: Kernel[Any] | None = None

    def __post_init__(self) -> None:
        for key, task, what in (
            ("given", "inpaint", "what is seen, such as top_half, or [0] of a vector"),
            ("matrix", "matrix", "a file .npy with A"),
        ):
            value = getattr(self, key)
            if (value is None) == (self.task == task):
                reason = f"is for sampler.task={task}" if value is not None else f"sampler.task={task} needs {what}"
                raise ValueError(f"{key}={'null' if value is None else value}: {reason}")
        if self.task == "deblur" and self.blur == "box" and self.width != round(self.width):
            raise ValueError(f"width={self.width}: the side of a box is a whole number of pixels")
        if self.method in ("auto", "chain") and self.draws > self.chains * self.steps:
            raise ValueError(f"draws={self.draws}: {self.chains} chains of {self.steps} steps have fewer")

    def way(self, model: Model, learned: Learned) -> Literal["map", "chain", "guided"]:
        """The method, where ``auto`` is settled.

        Raises:
            ValueError: the model offers none, or not the one that is asked for.
        """
        support = model.spec.support
        if support.kind != "real":
            raise ValueError(
                f"sampler=restore moves x along gradients, and this model's x is {support}: it needs a model of reals, "
                "such as model=realnvp, ebm or diffusion"
            )
        energy = isinstance(model, Unnormalized)
        field = isinstance(model, TimeField) and learned.score and learned.steps_of is None
        if isinstance(model, TimeField) and not field and not energy:
            raise ValueError(f"sampler=restore: {learned.limit}; guided reverse diffusion needs its score")
        if not energy and not field:
            raise ValueError(
                f"sampler=restore: {type(model).__name__} has neither an energy nor a score; flows, energies and "
                "closed forms have the one, diffusion and flow matching the other"
            )
        if self.method in ("map", "chain") and not energy:
            raise ValueError(f"sampler.method={self.method} needs an energy or a likelihood: sampler.method=guided")
        if self.method == "guided" and not field:
            raise ValueError(
                "sampler.method=guided needs a model with a score, such as diffusion: sampler.method=chain"
            )
        return self.method if self.method != "auto" else "chain" if energy else "guided"

    def check(self, model: Model, learned: Learned) -> None:
        if self.way(model, learned) == "chain":
            require_moves(self.kernel or HMC(), model.spec.support, f"sampler.kernel: {type(self.kernel).__name__}")

    def operator(self, subject: Subject) -> operators.Operator:
        """A on the device of the model.

        Raises:
            ValueError: the task does not fit the data.
            UsageError: there is no such region or coordinate.
        """
        spec = subject.dataset.spec
        if self.task in ("deblur", "superresolve") and spec.kind != "image":
            raise ValueError(f"sampler.task={self.task} needs images; this data is of shape {spec.shape}")
        found: operators.Operator = operators.Identity(spec.shape)
        if self.task == "inpaint":
            assert self.given is not None
            found = operators.Selection(spec.shape, region(spec, self.given))
        elif self.task == "deblur":
            found = operators.blur(spec.shape, self.blur, self.width)
        elif self.task == "superresolve":
            if any(side % self.factor for side in spec.shape[1:]):
                raise ValueError(f"sampler.factor={self.factor} does not divide the sides of {spec.shape}")
            found = operators.block_means(spec.shape, self.factor)
        elif self.task == "matrix":
            A = torch.from_numpy(array(named(str(self.matrix), "sampler.matrix="), "sampler.matrix").astype(np.float32))
            if A.ndim != 2 or A.shape[1] != spec.dim or not len(A):
                raise ValueError(f"sampler.matrix={self.matrix} has shape {tuple(A.shape)}; (m, {spec.dim}) is needed")
            found = operators.Matrix(spec.shape, A)
        return found.to(subject.device)

    @torch.no_grad()
    def answer(self, subject: Subject, n: int) -> Answer:
        spec, model, preprocess = subject.dataset.spec, subject.model, subject.preprocess
        operator, way = self.operator(subject), self.way(model, subject.learned)
        if self.input is None:
            if spec.kind == "image":
                image_quality.require()
            seen = degraded(subject, subject.split, n, operator, self.noise, NOISE)
        elif model.conditional:
            raise ValueError("sampler.input: a conditional model would have to know y; model.conditional=false")
        else:
            seen = from_file(self.input, operator, preprocess, self.task, self.noise)
            seen = replace(seen, z=seen.z.to(subject.device))
        y = preprocess.context(seen.y) if model.conditional else None
        observed = Observation(operator, seen.z, self.noise, preprocess.values)
        restoration = Restoration(subject=subject, observed=observed, y=y)
        with frozen(model):
            if way == "guided":
                found, said, notes = restoration.guided(draws=self.draws, steps=self.steps)
            else:
                found, said, notes = restoration.by_energy(
                    self.kernel or HMC(),
                    chains=self.chains if way == "chain" else 0,
                    draws=self.draws,
                    warmup=self.warmup,
                    steps=self.steps,
                )
        arrays = {"observed": seen.z, "degraded": operator.seen(seen.z)} | found
        if "draws" in found:
            arrays |= {"mean": found["draws"].mean(1), "deviation": found["draws"].std(1)}
        if seen.truth is not None:
            like = self.task == "denoise" or (spec.kind == "image" and self.task != "matrix")
            said = quality(subject, seen, operator, self.noise, arrays, like=like) | said
            arrays = {"original": seen.truth} | arrays
        if preprocess.stochastic:
            low, high = preprocess.offset, preprocess.offset + preprocess.width * preprocess.levels
            notes = (f"values go from {low:g} (the least) to {high:g} (the greatest)", *notes)
        return Answer({key: value.float().cpu() for key, value in arrays.items()}, said, notes)
