"""Games of a critic D against a model g: samples of g are to look like data to D.

The critic belongs to the objective; it sees y where the model does. Each step it moves ``critic_steps`` times, then the
model once, each with an optimizer of its own. Nothing here is a likelihood: validation scores the samples by their
energy distance to the held-out data.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm as constrain

from gencli.core import sizes
from gencli.core.noise import Noise
from gencli.core.options import Auto, Count, NonNegative, Positive
from gencli.core.spec import Batch, Spec
from gencli.models.base import Reparameterized
from gencli.models.trained import Learned
from gencli.nn.base import NetworkFactory
from gencli.objectives.base import Loss, Objective, Turn

SETS = 4
"""Sets of samples whose energy distance to a validation batch is averaged."""


def energy_distance(x: Tensor, z: Tensor) -> Tensor:
    """What each row adds to the unbiased estimate of 2 E|x - z| - E|x - x'| - E|z - z'|, which is their mean.

    Row i's share is the mean over j != i of |x_i - z_j| + |z_i - x_j| - |x_i - x_j| - |z_i - z_j|. The distance is zero
    only between equal distributions; the estimate of a small one may be negative.

    Args:
        x: (B, D) rows of one distribution.
        z: (B, D) rows of the other.

    Returns:
        (B,); zeros for a single row.

    References:
        Szekely and Rizzo, "Energy statistics: a class of statistics based on distances", 2013.
    """
    centre = x.mean(0)  # distances come from squares: without a common offset none of them cancels
    x, z = x - centre, z - centre
    between, within_x, within_z = torch.cdist(x, z), torch.cdist(x, x), torch.cdist(z, z)
    share = between + between.T - within_x - within_z
    return share.fill_diagonal_(0.0).sum(1) / max(len(x) - 1, 1)


class Adversarial(Objective[Reparameterized]):
    """What the games share.

    Args:
        spec: what one example is.
        critic: makes the critic's network, from the event shape to one number.
        critic_steps: moves of the critic for one of the model.
        r1: gamma of the penalty gamma/2 E|grad_x D(x)|^2 on data, which makes the game converge; 0: none.
        spectral_norm: hold the largest singular value of every layer of the critic at 1.

    References:
        Mescheder, Geiger and Nowozin, "Which training methods for GANs do actually converge?", 2018 (R1).
        Miyato, Kataoka, Koyama and Yoshida, "Spectral normalization for generative adversarial networks", 2018.
    """

    score_name = "energy_distance"
    critic: nn.Module

    def __init__(
        self,
        spec: Spec,
        *,
        critic: NetworkFactory,
        critic_steps: Count = 1,
        r1: NonNegative = 0.0,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__(spec)
        self.make, self.critic_steps, self.r1, self.spectral_norm = critic, critic_steps, r1, spectral_norm

    @abstractmethod
    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the critic minimises, from its values (B,) at data and at samples: a scalar."""

    @abstractmethod
    def model_loss(self, fake: Tensor) -> Tensor:
        """What the model minimises, from the critic's values (B,) at its samples: a scalar."""

    def penalty(self, x: Tensor, fake: Tensor, context: Tensor | None, noise: Noise) -> Tensor:
        """What the critic minimises besides: a scalar."""
        return 0.5 * self.r1 * self.slope(x, context).mean() if self.r1 else x.new_zeros(())

    def bind(self, model: Reparameterized) -> Learned:
        self.critic = self.make(self.spec.shape, (1,), model.context_dim)
        if self.spectral_norm:
            for layer in [*self.critic.modules()]:
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    constrain(layer)
        return Learned()

    def slope(self, x: Tensor, context: Tensor | None) -> Tensor:
        """|grad_x D(x)|^2 of each row, (B,), differentiable in the critic's parameters; always in float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.detach().float().requires_grad_()
            (slope,) = torch.autograd.grad(self.critic(x, context).sum(), x, create_graph=True)
        return slope.flatten(1).square().sum(1)

    def turns(self, model: Reparameterized) -> list[Turn]:

        def draw(batch: Batch, noise: Noise) -> tuple[Tensor, Tensor | None]:
            context = model.context(batch.y)
            fake = model.sample(len(batch.x), batch.y, noise=noise)
            return fake.to(batch.x), None if context is None else context.to(batch.x)

        def critic_turn(batch: Batch, noise: Noise) -> Loss:
            self.critic.train()
            with torch.no_grad():
                fake, context = draw(batch, noise)
            both = None if context is None else torch.cat([context, context])
            real_value, fake_value = self.critic(torch.cat([batch.x, fake]), both).float()[:, 0].chunk(2)
            penalty = self.penalty(batch.x, fake, context, noise)
            gap = (real_value.mean() - fake_value.mean()).detach()
            return Loss(
                self.critic_loss(real_value, fake_value) + penalty, {"critic_gap": gap, "penalty": penalty.detach()}
            )

        def model_turn(batch: Batch, noise: Noise) -> Loss:
            self.critic.eval()  # spectral normalization moves its singular vectors in the critic's own turn only
            fake, context = draw(batch, noise)
            return Loss(self.model_loss(self.critic(fake, context).float()[:, 0]))

        return [
            Turn("critic", list(self.critic.parameters()), critic_turn, self.critic_steps, self.project, static=True),
            Turn("model", list(model.parameters()), model_turn, static=True),
        ]

    def project(self) -> None:
        """After each move of the critic: nothing, unless its parameters are bounded."""

    def score(self, model: Reparameterized, batch: Batch, noise: Noise) -> Tensor:
        """The energy distance of a batch to as many samples, with their y appended to both, row by row."""
        context = model.context(batch.y)

        def with_context(x: Tensor) -> Tensor:
            flat = x.flatten(1).float()
            return flat if context is None else torch.cat([flat, context.to(flat)], 1)

        x = with_context(batch.x)
        sets = [with_context(model.sample(len(x), batch.y, noise=noise)) for _ in range(SETS)]
        if len(x) == 1:  # no pair of data: without that term, which no model changes
            z = torch.cat(sets)
            return (2 * torch.cdist(x, z).mean() - torch.cdist(z, z).sum() / (SETS * (SETS - 1))).view(1)
        return torch.stack([energy_distance(x, z) for z in sets]).mean(0)


class GAN(Adversarial):
    """The critic classifies, with logits D; the model maximises log D instead of minimising log(1 - D).

    Critic: E softplus(-D(x)) + E softplus(D(g)), which is 2 ln 2 where it cannot tell them apart and then
    2 ln 2 - 2 JSD at its best. Model: E softplus(-D(g)).

    References:
        Goodfellow et al., "Generative adversarial nets", 2014 (the non-saturating loss of section 3).
    """

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def model_loss(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()


class Hinge(Adversarial):
    """Critic: E max(0, 1 - D(x)) + E max(0, 1 + D(g)). Model: -E D(g).

    References:
        Lim and Ye, "Geometric GAN", 2017; Miyato et al., "Spectral normalization ...", 2018.
    """

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def model_loss(self, fake: Tensor) -> Tensor:
        return -fake.mean()


class _Wasserstein(Adversarial):
    """W_1 = max E D(x) - E D(g) over critics D that are 1-Lipschitz."""

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def model_loss(self, fake: Tensor) -> Tensor:
        return -fake.mean()


class WGAN(_Wasserstein):
    """The Wasserstein game; the critic is Lipschitz because its parameters are clipped to [-clip, clip].

    Args:
        clip: the bound; null: none, where ``spectral_norm`` or ``r1`` takes its place.
        critic_steps: moves of the critic for one of the model.
        shared: the other options of ``Adversarial``.

    Raises:
        ValueError: nothing bounds the critic.

    References:
        Arjovsky, Chintala and Bottou, "Wasserstein generative adversarial networks", 2017.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        clip: Positive | None = 0.01,
        critic_steps: Count = 5,
        **shared: Any,
    ) -> None:
        super().__init__(spec, critic_steps=critic_steps, **shared)
        if clip is None and not (self.r1 or self.spectral_norm):
            raise ValueError("objective.clip=null: then set objective.spectral_norm=true or objective.r1 > 0")
        self.clip = clip

    @torch.no_grad()
    def project(self) -> None:
        if self.clip is not None:
            for parameter in self.critic.parameters():
                parameter.clamp_(-self.clip, self.clip)


class WGANGP(_Wasserstein):
    """The Wasserstein game; a penalty holds the critic's slope at 1 between data and samples.

    Penalty: lambda E(|grad D(u x + (1 - u) g)| - 1)^2 with u ~ U[0, 1).

    Args:
        gradient_penalty: lambda; auto: ``sizes.gradient_penalty``.
        critic_steps: moves of the critic for one of the model.
        shared: the other options of ``Adversarial``.

    References:
        Gulrajani, Ahmed, Arjovsky, Dumoulin and Courville, "Improved training of Wasserstein GANs", 2017.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        gradient_penalty: Auto[Positive] = "auto",
        critic_steps: Count = 5,
        **shared: Any,
    ) -> None:
        super().__init__(spec, critic_steps=critic_steps, **shared)
        own = sizes.gradient_penalty(spec.dim)
        self.gradient_penalty = own if gradient_penalty == "auto" else gradient_penalty

    def penalty(self, x: Tensor, fake: Tensor, context: Tensor | None, noise: Noise) -> Tensor:
        u = noise.rand(len(x), *[1] * (x.dim() - 1)).to(x)
        slope = (self.slope(u * x + (1 - u) * fake, context) + 1e-12).sqrt()  # sqrt has no slope at 0
        return super().penalty(x, fake, context, noise) + self.gradient_penalty * (slope - 1).square().mean()
