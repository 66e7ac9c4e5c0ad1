"""What objectives, fields and paths declare of their options, as the builder checks it before it builds anything."""

import math

import pytest

from gencli import interfaces
from gencli.core import options
from gencli.core.errors import UsageError
from gencli.models.diffusion.field import NetworkField
from gencli.objectives.adversarial import GAN, WGAN, WGANGP
from gencli.objectives.diffusion.denoise import DSM, Denoise
from gencli.objectives.diffusion.flow_matching import FlowMatching
from gencli.objectives.diffusion.flow_nll import FlowNLL
from gencli.objectives.diffusion.vlb import VLB
from gencli.objectives.distillation.consistency import Consistency
from gencli.objectives.distillation.progressive import Progressive
from gencli.objectives.distillation.reflow import Reflow
from gencli.objectives.elbo import ELBO
from gencli.objectives.energy.contrastive_divergence import ContrastiveDivergence, PersistentContrastiveDivergence
from gencli.objectives.energy.energy_discrepancy import EnergyDiscrepancy
from gencli.objectives.energy.mcmc_mle import MonteCarloMLE
from gencli.objectives.energy.nce import NCE
from gencli.objectives.energy.pseudo_likelihood import PseudoLikelihood
from gencli.objectives.energy.ratio_matching import RatioMatching
from gencli.objectives.energy.score_matching import (
    DenoisingScoreMatching,
    DiffusionScoreMatching,
    ScoreMatching,
    SlicedScoreMatching,
)
from gencli.objectives.iwae import IWAE
from gencli.paths.learned import LearnedSchedule
from gencli.paths.schedules import VE, VP, Cosine, Straight, SubVP

REFUSED = {
    ELBO: {"beta": -1, "warmup": 1.5, "free_bits": -0.1},
    IWAE: {"k": 0, "gradient": "sticking"},
    GAN: {"critic_steps": 0, "r1": -1.0},
    WGAN: {"clip": 0.0, "critic_steps": 0, "r1": -1.0, "spectral_norm": 1},
    WGANGP: {"gradient_penalty": 0.0},
    Denoise: {"weighting": "elbo", "times": "log", "gamma": 0, "passes": 0, "spread": 0.0},
    DSM: {"low": 0, "high": math.inf, "passes": 0},
    FlowMatching: {"coupling": "ot", "times": "log"},
    FlowNLL: {
        "method": "dopri5",
        "steps": 0,
        "trace": "all",
        "probes": 0,
        "kinetic": -1.0,
        "jacobian": math.nan,
        "atol": 0.0,
        "rtol": -1.0,
        "max_nfe": 0,
    },
    VLB: {"passes": 0},
    Consistency: {"steps": 0, "decay": 1, "loss": "l1"},
    Progressive: {"start": 0, "end": 0},
    Reflow: {"pairs": 0, "tolerance": 0, "passes": 0},
    ScoreMatching: {"regularization": -1.0},
    SlicedScoreMatching: {"slices": 0, "regularization": -1.0},
    DenoisingScoreMatching: {"sigmas": [], "weights": [1.0, 0.0]},
    DiffusionScoreMatching: {"nu": 0},
    EnergyDiscrepancy: {"t": 0, "epsilon": 1, "samples": 0, "w": -1, "perturbation": "flips"},
    PseudoLikelihood: {"coordinates": 0, "regularization": -1.0},
    RatioMatching: {"coordinates": 0, "regularization": -1.0},
    ContrastiveDivergence: {"steps": 0, "step": 0, "temperature": -1.0, "kl": -1.0, "through": 0},
    PersistentContrastiveDivergence: {"buffer": 0, "reinit": 1.5, "noise": -1.0, "step": 0},
    MonteCarloMLE: {"samples": 1, "anchor": 0, "steps": 0, "leaps": 0, "least": 0},
    NCE: {"ratio": 0, "regularization": -1.0},
    NetworkField: {"prediction": "noise", "label_dropout": 1.0, "timesteps": 0},
    LearnedSchedule: {"degree": 0},
    VP: {"t_min": 0, "beta_min": 0},
    SubVP: {"t_min": 1, "beta_max": -1.0},
    Cosine: {"s": 0, "t_min": 0},
    Straight: {"t_min": 1},
    VE: {"sigma_min": 0, "sigma_max": 0},
}


@pytest.mark.parametrize(
    ("owner", "key", "value"),
    [(owner, key, value) for owner, values in REFUSED.items() for key, value in values.items()],
)
def test_values_out_of_range_are_refused_by_their_key(owner, key, value):
    declared = options.of_class(owner, 0 if issubclass(owner, interfaces.Path) else 1, vars(interfaces))
    with pytest.raises(UsageError, match=rf"^group\.{key}=.* is needed"):
        options.check({key: value}, declared, "group", owner.__name__)
