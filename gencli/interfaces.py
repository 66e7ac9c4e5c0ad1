"""What a plug-in needs to import: the contracts of every group, each from the ``base.py`` of its room."""

from gencli.core.noise import Noise
from gencli.core.spec import Batch, Bound, Given, Graph, Spec, Support
from gencli.data.base import Dataset, Modes, Split
from gencli.data.box import Box
from gencli.data.priors import LogNormalPrior, NormalPrior, UniformPrior
from gencli.data.task import Prior, Task
from gencli.estimators.base import Estimate, Estimator, Shared
from gencli.kernels.base import Energy, Info, Kernel, State
from gencli.loggers.base import Logger
from gencli.models.base import (
    Autoregressive,
    DataInitialized,
    DirectSampling,
    Elbo,
    Ensemble,
    ExactLikelihood,
    LatentVariable,
    Model,
    ModelFactory,
    Reparameterized,
    TimeField,
    Unnormalized,
    VelocityField,
    log_likelihood,
)
from gencli.models.distributions import Categorical, Conditional, Fair
from gencli.models.structure import (
    Annealable,
    BlockGibbs,
    Classifier,
    Enumerable,
    ExponentialFamily,
    HiddenUnits,
    JointEnergy,
    LinearFeatures,
    Pairwise,
    Parametric,
    PosteriorCodes,
    Relaxed,
    Torus,
)
from gencli.models.subject import Subject
from gencli.models.trained import Learned, TrainedModel, TrainedRun
from gencli.nn.base import Network, NetworkFactory
from gencli.objectives.base import Drift, Loss, Objective, Turn
from gencli.paths.base import Path, Prediction
from gencli.samplers.base import Answer, Question, Sampler, Samples

__all__ = [
    "Annealable",
    "Answer",
    "Autoregressive",
    "Batch",
    "BlockGibbs",
    "Bound",
    "Box",
    "Categorical",
    "Classifier",
    "Conditional",
    "DataInitialized",
    "Dataset",
    "DirectSampling",
    "Drift",
    "Elbo",
    "Energy",
    "Ensemble",
    "Enumerable",
    "Estimate",
    "Estimator",
    "ExactLikelihood",
    "ExponentialFamily",
    "Fair",
    "Given",
    "Graph",
    "HiddenUnits",
    "Info",
    "JointEnergy",
    "Kernel",
    "LatentVariable",
    "Learned",
    "LinearFeatures",
    "LogNormalPrior",
    "Logger",
    "Loss",
    "Model",
    "ModelFactory",
    "Modes",
    "Network",
    "NetworkFactory",
    "Noise",
    "NormalPrior",
    "Objective",
    "Pairwise",
    "Parametric",
    "Path",
    "PosteriorCodes",
    "Prediction",
    "Prior",
    "Question",
    "Relaxed",
    "Reparameterized",
    "Sampler",
    "Samples",
    "Shared",
    "Spec",
    "Split",
    "State",
    "Subject",
    "Support",
    "Task",
    "TimeField",
    "Torus",
    "TrainedModel",
    "TrainedRun",
    "Turn",
    "UniformPrior",
    "Unnormalized",
    "VelocityField",
    "log_likelihood",
]
