"""Distributions of one coordinate, each written once; whatever gives their parameters is a network and a head."""

from gencli.models.distributions.base import Conditional, Head
from gencli.models.distributions.categorical import BernoulliHead, Categorical, CategoricalHead, Fair
from gencli.models.distributions.logistic import LogisticMixture, LogisticMixtureHead, PixelMixtureHead
from gencli.models.distributions.mixed import Conditionals, MixedHead, OptionalHead, head_of
from gencli.models.distributions.normal import Normal, NormalHead, NormalMixture, NormalMixtureHead

__all__ = [
    "BernoulliHead",
    "Categorical",
    "CategoricalHead",
    "Conditional",
    "Conditionals",
    "Fair",
    "Head",
    "LogisticMixture",
    "LogisticMixtureHead",
    "MixedHead",
    "Normal",
    "NormalHead",
    "NormalMixture",
    "NormalMixtureHead",
    "OptionalHead",
    "PixelMixtureHead",
    "head_of",
]
