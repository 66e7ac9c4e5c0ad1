"""A generator: x = g(z, y) with normal latents z, and no likelihood at all.

The image of z under g is a surface of fewer dimensions than x, or folds onto itself: either way there is no change of
variables, and p(x) is out of reach. A critic trains it (objectives ``gan``, ``wgan``, ``wgan_gp``, ``hinge``).

References:
    Goodfellow et al., "Generative adversarial nets", 2014.
"""

from __future__ import annotations

from torch import Tensor

from gencli.core import sizes
from gencli.core.noise import Noise
from gencli.core.options import Auto, Count
from gencli.core.spec import Spec
from gencli.models.base import Reparameterized
from gencli.nn.base import NetworkFactory


class Generator(Reparameterized):
    """Normal latents through a network. Its output has no bounds: what lies outside the data's range is clamped there.

    Args:
        spec: what one example is.
        net: makes the network from (latent,) to the event shape.
        conditional: model p(x given y).
        context: network from y to features that all others see; None: they see y itself.
        latent: number of latents; auto: ``sizes.generator_latents``.
    """

    shapes = ("vector", "image")

    def __init__(
        self,
        spec: Spec,
        *,
        net: NetworkFactory,
        conditional: bool = False,
        context: NetworkFactory | None = None,
        latent: Auto[Count] = "auto",
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        self.latent = sizes.settle(self, "latent", latent, sizes.generator_latents(spec.dim))
        self.net = net((self.latent,), spec.shape, self.context_dim)

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        z = noise.randn(n, self.latent).to(next(self.parameters())) * temperature
        context = self.context(y)
        return self.net(z, None if context is None else context.to(z))
