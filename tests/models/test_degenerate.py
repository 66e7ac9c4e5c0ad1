"""Examples without a density are refused in one line that names the coordinates, not by a failed factorization."""

from __future__ import annotations

import pytest
import torch
from energies import normal, quadratic, spec

from gencli.core.tensors import cholesky
from gencli.methods.annealing import MomentsPath
from gencli.models.classical.gaussian import Gaussian
from gencli.models.classical.gmm import GMM
from gencli.models.classical.ppca import PPCA
from gencli.models.energy.reference import Reference


def examples(kind: str) -> torch.Tensor:
    x = normal(200, 4)
    if kind == "constant":
        x[:, 2] = 3.0
    if kind == "copy":
        x[:, 3] = 2 * x[:, 1] - 1
    if kind == "few":
        x = x[:3].repeat(60, 1)
    return x.float()


SINGULAR = {
    "constant": r"coordinate 2 \(the first is 0\) is constant: raise ridge",
    "copy": r"coordinates 1, 3 \(the first is 0\) are linearly dependent: raise ridge",
}


@pytest.mark.parametrize("kind", SINGULAR)
@pytest.mark.parametrize("model", [Gaussian, GMM, lambda s, ridge: Reference(s, ridge=ridge)])
def test_a_singular_covariance_names_its_coordinates(model, kind):
    with pytest.raises(ValueError, match=SINGULAR[kind]):
        model(spec(4), ridge=0.0).initialize(examples(kind))
    fitted = model(spec(4), ridge=1e-6)
    fitted.initialize(examples(kind))
    assert fitted.log_prob(examples(kind)).isfinite().all()


@pytest.mark.parametrize("covariance", ["isotropic", "diagonal", "full"])
def test_constant_examples_have_no_density_whatever_the_ridge(covariance):
    with pytest.raises(ValueError, match="constant"):
        Gaussian(spec(4), covariance=covariance).initialize(torch.ones(50, 4))


def test_a_mixture_on_few_distinct_examples_says_what_to_change():
    with pytest.raises(ValueError, match=r"distinct examples: raise ridge=0.0, or take fewer than components=3"):
        GMM(spec(2), components=3, ridge=0.0).initialize(examples("few")[:, :2])


def test_noise_of_no_variance_is_refused():
    with pytest.raises(ValueError, match=r"model\.floor=0\.0: these examples fill 2 dimensions, .* model\.latent=3"):
        PPCA(spec(4), latent=3, floor=0.0).initialize(examples("few"))
    PPCA(spec(4), latent=3).initialize(examples("few"))


def test_the_path_of_moments_of_constant_examples_names_the_other_path():
    path = MomentsPath(quadratic(4), torch.ones(50, 4), torch.ones(50, 4))
    with pytest.raises(ValueError, match=r"constant: estimator\.path=geometric"):
        path.normal(0.5)


def test_close_is_not_singular():
    """A correlation of 1 - 1e-9 is factored, and as torch does."""
    S = torch.tensor([[1.0, 1 - 1e-9], [1 - 1e-9, 1.0]], dtype=torch.float64)
    assert torch.equal(cholesky(S, "none"), torch.linalg.cholesky(S))
    with pytest.raises(ValueError, match="not finite"):
        cholesky(S * float("nan"), "none")
