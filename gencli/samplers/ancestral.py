"""Ancestral sampling: coordinate after coordinate, each from its conditional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from gencli.core.noise import Noise, Uniforms
from gencli.core.options import Count, NonNegative, Range
from gencli.core.spec import Given
from gencli.models.base import Autoregressive
from gencli.models.distributions import Categorical, Conditional
from gencli.models.trained import Learned
from gencli.samplers.base import Sampler, Samples


@dataclass(frozen=True, kw_only=True)
class Ancestral(Sampler[Autoregressive]):
    """x_t ~ p(x_t | x_<t, y) for t = 1..D; where part of x is given, that part is kept and the rest is completed.

    Coordinates that come after the given ones in the model's order follow p(rest | given); given coordinates that come
    after a free one cannot inform it.

    Args:
        temperature: divides log-probabilities, or scales the standard deviation of reals; 1 is the model itself, 0
            takes the likeliest value.
        top_k: draw among the k likeliest values only; None: all.
        top_p: draw among the fewest values whose probability reaches p ("nucleus"); None: all.
        given: what is kept of held-out examples: a region of images, such as ``top_half``, or a list of a vector's
            coordinates; None: nothing is.
        prompt: text to go on from; None: none.
        length: symbols of text to draw, the prompt's among them; None: the model's window.
        cached: compute at each step only what the newest coordinate changed; False: a full pass a coordinate, which
            gives the same samples, slowly.

    References:
        Holtzman et al., "The curious case of neural text degeneration", 2020 (top_p).
    """

    temperature: NonNegative = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Range(above=0, high=1)] | None = None
    given: str | list[int] | None = None
    prompt: str | None = None
    length: Count | None = None
    cached: bool = True

    def check(self, model: Autoregressive, learned: Learned) -> None:
        if not model.spec.support.discrete:
            for key, value in (("top_k", self.top_k), ("top_p", self.top_p)):
                if value is not None:
                    raise ValueError(f"sampler.{key}={value} needs discrete data; this model's is {model.spec.support}")

    def sample(
        self, model: Autoregressive, n: int, y: Tensor | None, noise: Noise, given: Given | None = None
    ) -> Samples:
        if model.spec.support.discrete:  # which needs uniform variates and no others
            noise = Uniforms(noise)

        def pick(conditional: Conditional) -> Tensor:
            if isinstance(conditional, Categorical):
                conditional = conditional.truncated(self.top_k, self.top_p)
            return conditional.sample(noise, self.temperature)

        return Samples(model.decode(n, y, pick=pick, given=given, cached=self.cached))
