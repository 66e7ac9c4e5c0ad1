"""Mixture of Gaussians: p(x) = sum_k pi_k N(x; mu_k, Sigma_k)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gencli.core import sizes
from gencli.core.noise import Noise
from gencli.core.options import Auto, Count, NonNegative
from gencli.core.spec import Spec
from gencli.core.tensors import cholesky
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood
from gencli.models.classical.gaussian import Covariance, Normals


class GMM(ExactLikelihood, DirectSampling, DataInitialized):
    """A mixture that starts from EM (scikit-learn's, seeded) and goes on by gradient.

    Args:
        spec: what one example is.
        conditional: refused.
        components: number of components.
        covariance: ``isotropic``, ``diagonal`` or ``full``. auto: ``full`` up to ``WIDE`` dimensions, and
            ``diagonal`` beyond, because a step of EM takes D^2 operations an example and a component.
        ridge: added to every variance in EM, as a share of the mean variance of the data.
        starts: runs of EM, of which the best is kept.
        examples: training examples that EM sees; of larger sets it takes this many, evenly spaced. auto: ``CELLS`` / D,
            at most ``MOST``.

    Raises:
        ValueError: conditional, or more components than examples.

    References:
        Pearson, "Contributions to the mathematical theory of evolution", 1894; Dempster, Laird and Rubin, "Maximum
        likelihood from incomplete data via the EM algorithm", 1977.
    """

    shapes = ("vector",)

    WIDE, CELLS, MOST = 256, 1_280_000, 20_000

    def __init__(
        self,
        spec: Spec,
        *,
        conditional: bool = False,
        components: Count = 10,
        covariance: Auto[Covariance] = "auto",
        ridge: NonNegative = 1e-6,
        starts: Count = 3,
        examples: Auto[Count] = "auto",
    ) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: a mixture has no network to condition; take a flow")
        own: Covariance = "full" if spec.dim <= self.WIDE else "diagonal"
        self.kind: Covariance = sizes.settle(self, "covariance", covariance, own)
        self.ridge, self.starts = ridge, starts
        self.initial_examples = min(self.MOST, max(1, self.CELLS // spec.dim)) if examples == "auto" else examples
        self.logits = nn.Parameter(torch.zeros(components))
        self.normals = Normals(components, spec.dim, self.kind)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.logsumexp(self.normals.log_prob(x) + self.logits.log_softmax(0), 1)

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        u = noise.rand(n).to(self.logits)
        k = (u[:, None] >= self.logits.softmax(0).cumsum(0)[:-1]).sum(1)
        return self.normals.sample(k, noise.randn(n, self.spec.dim).to(u) * temperature)

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        from sklearn.mixture import GaussianMixture  # half a second that only this model should pay

        rows = x.double().cpu()
        if len(rows) < len(self.logits):
            raise ValueError(f"components={len(self.logits)} of {len(rows)} examples: take fewer components")
        variance = (rows - rows.mean(0)).square().mean()
        mixture = GaussianMixture(
            len(self.logits),
            covariance_type={"isotropic": "spherical", "diagonal": "diag", "full": "full"}[self.kind],
            reg_covar=self.ridge * float(variance),
            n_init=self.starts,
            max_iter=300,
            random_state=0,
        )
        try:
            em = mixture.fit(rows.numpy())
        except ValueError as error:
            if "ill-defined empirical covariance" not in str(error):
                raise
            cholesky(torch.cov(rows.T).view(self.spec.dim, -1), "raise ridge, or leave them out")
            raise ValueError(
                f"a component has collapsed onto too few distinct examples: raise ridge={self.ridge}, or take fewer "
                f"than components={len(self.logits)}"
            ) from error
        self.logits.copy_(torch.as_tensor(em.weights_).log())
        self.normals.set(torch.as_tensor(em.means_), torch.as_tensor(em.covariances_))
