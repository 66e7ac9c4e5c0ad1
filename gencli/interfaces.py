"""Every contract between the parts of gencli: specifications, capabilities, objectives, samplers, estimators.

Shapes: B rows in a batch, ``*`` the event shape, C the context's dimension. Likelihoods and energies are in nats.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.noise import Noise
from gencli.path import Path, Prediction

Bound = Literal["exact", "upper", "lower", "estimate"]
"""What a reported number is to the NLL: the number itself, a bound from above or below, or neither."""


@dataclass(frozen=True)
class Support:
    """The set in which one coordinate of x lies.

    kind: ``real``, ``unit`` (floats in [0, 1]), ``binary``, ``levels`` (ordered integers 0..K-1), ``categorical``
    (unordered ones), ``graph``. levels: K for ``levels`` and ``categorical``, 2 for ``binary``, else None.
    """

    kind: str
    levels: int | None = None

    KINDS: ClassVar[tuple[str, ...]] = ("real", "unit", "binary", "levels", "categorical", "graph")

    @classmethod
    def parse(cls, text: str) -> Support:
        """Read ``real``, ``binary``, ``levels:256`` ...

        Raises:
            ValueError: the text names no support.
        """
        kind, _, levels = text.partition(":")
        counted = kind in ("levels", "categorical")
        if kind not in cls.KINDS or counted != levels.isdecimal() or (levels and not counted):
            raise ValueError(f"'{text}' is no support: real, unit, binary, levels:K, categorical:K or graph")
        if counted and int(levels) < 2:
            raise ValueError(f"'{text}' needs at least 2 values")
        return cls(kind, int(levels) if counted else 2 if kind == "binary" else None)

    @property
    def discrete(self) -> bool:
        """Whether x is an integer."""
        return self.levels is not None

    def __str__(self) -> str:
        return f"{self.kind}:{self.levels}" if self.kind in ("levels", "categorical") else self.kind


@dataclass(frozen=True)
class Spec:
    """What one example is.

    Args:
        shape: the event shape: (D,) for vectors, (C, H, W) for images.
        support: where a coordinate lies.
        classes: number of classes if examples have labels y in 0..classes-1.
        context: dimension of y where y is a vector of reals (0: it is not).
    """

    shape: tuple[int, ...]
    support: Support
    classes: int | None = None
    context: int = 0

    @property
    def dim(self) -> int:
        """D, the number of coordinates."""
        return math.prod(self.shape)

    @property
    def kind(self) -> str:
        """``image`` for three dimensions, else ``vector``."""
        return "image" if len(self.shape) == 3 else "vector"


@dataclass
class Batch:
    """Examples, in data space or in model space.

    Args:
        x: (B, *).
        y: the context: None, (B,) classes or (B, C) reals.
        given: (B,) number of leading coordinates of x that are given and not scored, as in a window of text whose
            beginning is context: what is measured is p(x_given.. | x_..given). None: all of x is scored.
        progress: the fraction of the training budget that is used, in [0, 1]; 1 outside training.
    """

    x: Tensor
    y: Tensor | None = None
    given: Tensor | None = None
    progress: float = 1.0


class Network(nn.Module):
    """A network that knows no probability: in_shape -> out_shape, given an optional context vector (B, C).

    Constructor: ``Network(in_shape, out_shape, context, **options)``; a config's ``net`` node gives the options.
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, *in_shape) -> (B, *out_shape)."""


NetworkFactory = Callable[[tuple[int, ...], tuple[int, ...], int], Network]
"""What a model gets as ``net``: (in_shape, out_shape, context dimension) -> a new network."""

ModelFactory = Callable[["Spec"], "Model"]
"""What an objective or estimator gets for a density of its own, such as noise: a specification -> a new model."""


# --- models ----------------------------------------------------------------------------------------------------------


class Model(nn.Module, ABC):
    """A generative model in model space; it inherits the capabilities that it offers.

    Args:
        spec: shape and support of what it models.
        conditional: model p(x given y) instead of p(x).

    Raises:
        ValueError: conditional on data without labels or context.
    """

    supports: ClassVar[tuple[str, ...]] = ("real",)
    shapes: ClassVar[tuple[str, ...]] = ("vector",)

    def __init__(self, spec: Spec, *, conditional: bool = False) -> None:
        super().__init__()
        if conditional and not (spec.classes or spec.context):
            raise ValueError("model.conditional=true needs data with labels or a context; this data has neither")
        self.spec = spec
        self.conditional = conditional

    @property
    def context_dim(self) -> int:
        """Dimension of the context vector that the networks get; 0 for an unconditional model."""
        return (self.spec.classes or self.spec.context) if self.conditional else 0

    def context(self, y: Tensor | None) -> Tensor | None:
        """y as a vector: one-hot classes (B, classes) or the reals (B, C) themselves; None if unconditional."""
        if not self.conditional:
            return None
        if y is None:
            raise ValueError("this model is conditional: it needs y")
        if self.spec.classes:
            return F.one_hot(y, self.spec.classes).float()
        return y

    def health(self, x: Tensor, y: Tensor | None = None) -> dict[str, float]:
        """Warning signs that are measured on a few validation examples and logged; a flow's round-trip error."""
        return {}


class Unnormalized(Model):
    """log p(x) = -E(x) - log Z, with Z unknown."""

    @abstractmethod
    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """E(x) in nats: (B, *) -> (B,)."""

    def reference(self) -> Model | None:
        """A normalised density near to this one, with samples of its own (an energy tilts it); None: there is none."""
        return None

    def start(self, n: int, y: Tensor | None = None, *, noise: Noise) -> Tensor:
        """Points (n, *) in model space from which chains may start: samples of the reference, else standard normal."""
        near = self.reference()
        if isinstance(near, DirectSampling):
            return near.sample(n, y, noise=noise)
        return noise.randn(n, *self.spec.shape)


class ExactLikelihood(Unnormalized):
    """A normalised density or mass function: log Z = 0."""

    @abstractmethod
    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x) in nats: (B, *) -> (B,)."""

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -self.log_prob(x, y)


class Ensemble(ExactLikelihood):
    """A mixture of M members of equal weight: log p(x) = logsumexp_m log p_m(x) - ln M.

    ``members``: M. ``log_prob`` is that of all of them; in training a model may take one member a batch.
    """

    members: int

    @abstractmethod
    def log_prob_of(self, members: int, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x) in nats of the mixture of the first ``members`` alone: (B, *) -> (B,)."""


class DirectSampling(Model):
    """Independent samples without a chain."""

    @property
    def passes(self) -> int:
        """Sequential network passes that a batch of samples costs."""
        return 1

    @abstractmethod
    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        """n samples (n, *) in model space; temperature scales the standard deviation of the base noise."""


class Reparameterized(DirectSampling):
    """Samples are differentiable: x = g(eps; theta, y), with normal noise eps that does not depend on theta.

    Where gradients are enabled, they flow through ``sample`` to every parameter, so that a critic can train the model.
    """


class Conditional(ABC):
    """The distribution of one coordinate for each of n rows, while the coordinates before it are fixed."""

    @abstractmethod
    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """One draw a row, (n,); temperature divides log-probabilities, or scales the standard deviation of reals."""


class Categorical(Conditional):
    """A coordinate in 0..K-1.

    Args:
        logits: (n, K) unnormalised log-probabilities.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def truncated(self, top_k: int | None = None, top_p: float | None = None) -> Categorical:
        """Only the k likeliest values, or the fewest whose probability reaches p (the likeliest one always stays)."""
        logits = self.logits
        if top_k is not None and top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(top_k, -1).values[..., -1:], -math.inf)
        if top_p is not None and top_p < 1:
            ordered, index = logits.sort(-1, descending=True)
            p = ordered.softmax(-1)
            out = p.cumsum(-1) - p >= top_p  # what comes before already reaches p
            out[..., 0] = False
            logits = logits.masked_fill(out.scatter(-1, index, out), -math.inf)
        return Categorical(logits)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        if temperature == 0:
            noise.rand(len(self.logits))  # the stream goes on as at any other temperature
            return self.logits.argmax(-1)
        exact = self.logits if self.logits.device.type == "mps" else self.logits.double()  # MPS has no fp64
        p = (exact / temperature).softmax(-1)  # inversion: u falls into exactly one value's interval
        u = noise.rand(len(p)).to(p)[:, None]
        return (p.cumsum(-1)[:, :-1] <= u).sum(-1)


class Fair(Categorical):
    """A choice that belongs to the model itself, such as which member of a mixture a row is drawn from.

    Neither truncation nor temperature applies to it.
    """

    def truncated(self, top_k: int | None = None, top_p: float | None = None) -> Fair:
        return self

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        return super().sample(noise)


class Autoregressive(ExactLikelihood, DirectSampling):
    """p(x | y) = prod_t p(x_o(t) | x_o(1..t-1), y): the chain rule in an order o of the D coordinates.

    ``decode`` walks the coordinates in that order; ``log_conditionals`` scores all of them in one pass. ``natural``:
    whether the order is that of x itself, as a row whose beginning is given needs it.
    """

    natural: bool = True
    any_length: ClassVar[bool] = False

    @property
    def passes(self) -> int:
        return self.spec.dim

    @abstractmethod
    def log_conditionals(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p of each coordinate given those before it, in nats: (B, *) -> (B, *)."""

    def log_prob(self, x: Tensor, y: Tensor | None = None, given: Tensor | None = None) -> Tensor:
        """log p(x | y), or log p(x_given.. | x_..given, y) where the first ``given`` (B,) coordinates are context."""
        log_p = self.log_conditionals(x, y).flatten(1)
        if given is not None:
            log_p = log_p.masked_fill(torch.arange(log_p.shape[1], device=x.device) < given[:, None], 0.0)
        return log_p.sum(1)

    @abstractmethod
    def decode(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        pick: Callable[[Conditional], Tensor],
        given: Given | None = None,
        cached: bool = True,
    ) -> Tensor:
        """Samples (n, *), coordinate after coordinate: x_o(t) = pick(its conditional), unless it is given.

        ``pick`` is called at every coordinate, given or not, so that noise does not depend on what is given; a mixture
        has its rows pick their members before.
        cached: compute at each step only what the newest coordinate changed; False: a full pass a coordinate, which
        gives the same samples and is there to be compared with.
        """

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        return self.decode(n, y, pick=lambda conditional: conditional.sample(noise, temperature))


def log_likelihood(model: ExactLikelihood, batch: Batch) -> Tensor:
    """log p of the scored part of each row, (B,) nats; rows with a given part need an Autoregressive model."""
    if batch.given is None:
        return model.log_prob(batch.x, batch.y)
    assert isinstance(model, Autoregressive)
    return model.log_prob(batch.x, batch.y, batch.given)


class DataInitialized(Model):
    """A model that starts from the data: actnorm, EM, closed forms.

    ``initial_examples``: the most training examples that it wants to see.
    """

    initial_examples: int = 2048

    @abstractmethod
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set parameters from training examples x (N, *) in model space; called once, before the first step."""

    def initialize_from(self, batch: Batch) -> None:
        """``initialize`` from rows of the training split; for models that mind which part of a row is given."""
        self.initialize(batch.x, batch.y)


@dataclass
class Elbo:
    """What one sample z ~ q(z | x) says of ELBO = -distortion - sum of the rates, in nats.

    Args:
        distortion: (B,) -log p(x | z).
        rate: (B, U) KL(q || p) of each unit, or group of units, that can be told apart: in closed form where there is
            one, else log q - log p of the sample.
    """

    distortion: Tensor
    rate: Tensor


class LatentVariable(DirectSampling):
    """p(x) = integral of p(x | z) p(z), with an inference model q(z | x) that is reparameterised: z = g(eps, x).

    ``latent_dim``: d, the length of a code z that ``encode`` gives and ``decode`` takes.
    ``stoppable``: whether ``log_weights`` knows ``through``.
    """

    latent_dim: int
    stoppable: bool = True

    @abstractmethod
    def infer(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        """All of q(z | x) that needs no sample, as tensors (B, ...): the inference network's one pass over x."""

    @abstractmethod
    def log_weights(
        self,
        x: Tensor,
        k: int,
        y: Tensor | None = None,
        *,
        noise: Noise,
        inferred: tuple[Tensor, ...] | None = None,
        through: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """log p(x | z_i) + log p(z_i) - log q(z_i | x) of k samples z_i ~ q(z | x), (B, k) nats, differentiable.

        The samples take one call of ``noise``, shaped (B, k, *), so that cutting an even k into even pieces changes no
        draw. Its mean is the ELBO, the mean of exp(.) has expectation p(x).

        Args:
            x: (B, *).
            k: samples a row.
            y: the context.
            noise: where they come from.
            inferred: what ``infer`` gave for these rows; None: it is called.
            through: if given, what each z passes (B, k, *) on its way into the densities, while the parameters within
                log q(. | x) are held constant. Doubly reparameterised gradients need it.
        """

    @abstractmethod
    def elbo(self, x: Tensor, y: Tensor | None = None, *, noise: Noise) -> Elbo:
        """The two terms of the ELBO from one sample a row, differentiable."""

    @abstractmethod
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """A code of each row, without noise: the mean of q(z | x), or what stands for it; (B, *) -> (B, d)."""

    @abstractmethod
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of p(x | z) in model space, (n, d) -> (n, *); of categories, which have no mean, the likeliest."""


class VelocityField(Model):
    """dx/dt = velocity(x, t) takes data at t_min to N(0, prior_std^2 I) at t_max, and back: a continuous flow.

    That flow is a density, log p(x) = log N(x_t_max) + integral of div velocity, and a sampler. Everything is in model
    space. Labels are dropped in training with probability ``label_dropout``, so that the model also knows p(x): a
    label of -1, or y=None, asks for it.

    timesteps: T where the model knows T discrete times only, else None.
    """

    shapes = ("vector", "image")
    label_dropout: float = 0.0
    timesteps: int | None = None
    t_min: float = 0.0
    t_max: float = 1.0
    prior_std: float = 1.0

    @abstractmethod
    def velocity(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """dx/dt (B, *) at x (B, *) and the times t (B,)."""


class TimeField(VelocityField):
    """A model that moves mass along a path: diffusion, score-based models, flow matching.

    right: what training made right in a prediction: ``score``, and with it all else; ``velocity`` only, where data and
        noise were paired; or a sampler's name, where a student learned the steps of that sampler only and the flow
        along its velocity is not what is drawn. An objective that does less than ``score`` says so in its ``check``,
        and what needs more refuses.
    """

    path: Path
    right: str = "score"

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return self.path.t_min

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.path.t_max

    @property
    def prior_std(self) -> float:  # type: ignore[override]
        return self.path.prior_std

    @abstractmethod
    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        """What the model says about x (B, *) at the times t (B,)."""

    def velocity(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.predict(x, t, y).velocity

    def snap(self, t: Tensor) -> Tensor:
        """Times as this model knows them: those of a discrete model are t_min + (t_max - t_min) i/T, i = 1..T."""
        if self.timesteps is None:
            return t
        low, width = self.path.t_min, self.path.t_max - self.path.t_min
        step = ((t - low) / width * self.timesteps - 1e-3).ceil()  # a grid point, but for rounding, is itself
        step = step.clamp(1, self.timesteps)
        return low + width * step / self.timesteps


# --- objectives, samplers, estimators --------------------------------------------------------------------------------


@dataclass
class Given:
    """What a sampler must keep: values x (n, *) in model space where mask (n, *) is True; elsewhere x is ignored."""

    x: Tensor
    mask: Tensor


@dataclass
class Loss:
    """value: the scalar to minimise; logs: scalars to log, as detached tensors."""

    value: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Turn:
    """One player's move within a training step.

    Args:
        name: names its optimizer and its loss in the logs.
        parameters: what this turn's optimizer moves.
        loss: a batch and noise -> Loss.
        repeats: moves a step, each on a batch of its own.
        project: called after each move: puts the parameters back into the set that they may not leave.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Batch, Noise], Loss]
    repeats: int = 1
    project: Callable[[], None] | None = None


class Objective(nn.Module, ABC):
    """What training minimises. Critics, teachers and buffers are its own state.

    score_name: what ``score`` measures: ``nll`` (nats a row in model space, or an upper bound of them, to which the
    caller adds the terms of preprocessing) or another name that is logged as it is. Lower is better.
    initial_examples: the most training examples that ``initialize`` wants to see; 0: it is not called.
    continuous: whether it moves x in R^D, which bits and levels do not bear; samplers and estimators say so too.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()
    continuous: ClassVar[bool] = False
    score_name: ClassVar[str] = "nll"
    initial_examples: int = 0

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec

    def attach(self, model: Model) -> None:
        """Build what depends on the model, such as a critic that sees y where the model does; once, after both."""

    def check(self, model: Model) -> None:
        """Refuse options that this model cannot honour.

        Raises:
            ValueError: names the key to change.
        """

    def open(self, model: Model) -> None:
        """Open what only training needs, such as a teacher's run; after ``check``, before anything is written.

        Raises:
            ValueError: names the key to change.
        """

    def initialize(self, model: Model, x: Tensor, y: Tensor | None = None) -> None:
        """Set the objective's own state (noise distributions, buffers) from training examples, once before step 0.

        A student takes its teacher's weights here.
        """

    def advice(self) -> str:
        """What to change when a loss was not finite, for the message that ends the run."""
        return "Try a smaller optimizer.lr, a longer optimizer.warmup_steps or a smaller trainer.clip_norm"

    @abstractmethod
    def turns(self, model: Model) -> list[Turn]:
        """The players, in order."""

    @abstractmethod
    def score(self, model: Model, batch: Batch, noise: Noise) -> Tensor:
        """The validation score of each row: (B,)."""


class Sampler(ABC):
    """A way to draw from a model; its options are constructor arguments.

    ``given`` and ``prompt`` are attributes of samplers that can complete what is partly given: what is kept of held-out
    examples, a region of images (``sampling.REGIONS``) or a list of a vector's coordinates, or the text to go on from.
    ``caveat``: what is to be said of completions that are not draws of p(rest | given). ``length``: symbols to draw of
    sequences that may be longer or shorter than the model's window.
    ``diagnostics``: what the last call of ``sample`` says of itself, such as a chain's acceptance and R-hat, or the
    network evaluations (``nfe``) that a sample cost; the same keys at every call.

    Args:
        classes: labels to draw from a conditional model, dealt in turn; None: all of them.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()
    continuous: ClassVar[bool] = False
    given: str | list[int] | None = None
    caveat: ClassVar[str] = ""
    prompt: str | None = None
    length: int | None = None

    def __init__(self, classes: list[int] | None = None) -> None:
        if classes is not None and (
            not isinstance(classes, list) or not classes or not all(isinstance(c, int) for c in classes)
        ):
            raise ValueError(f"sampler.classes={classes}: a list of labels, such as [3,5]")
        self.classes = classes
        self.diagnostics: dict[str, float] = {}

    def check(self, model: Model) -> None:  # noqa: B027
        """Refuse options that this model cannot honour.

        Raises:
            ValueError: names the key to change.
        """

    @abstractmethod
    def sample(self, model: Model, n: int, y: Tensor | None, noise: Noise, given: Given | None = None) -> Tensor:
        """n samples (n, *) in model space; given: what to complete, only where the sampler was asked to."""


@dataclass
class Estimate:
    """NLL of each row in model space.

    Args:
        nll: (B,) nats.
        variance: (B,) variance of the estimator itself for each row; None: it has none.
        diagnostics: (B,) values, averaged into the record.
    """

    nll: Tensor
    variance: Tensor | None = None
    diagnostics: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Shared:
    """What an estimator measured once, for all rows alike.

    Args:
        variance: of a term that is common to all rows, such as log Z; it joins the record's ``se_estimator``.
        diagnostics: values for the record.
    """

    variance: float = 0.0
    diagnostics: dict[str, float] = field(default_factory=dict)


class Estimator(ABC):
    """A way to measure the NLL; ``bound`` says what its number is to the true one.

    ``scores_given``: whether it honours ``Batch.given``. ``variant``: added to the name of its records where options
    make it measure another density.
    ``examples``: rows of the validation split (the training split where there is none) that ``prepare`` wants to see.

    Args:
        draws: dequantization draws that are averaged for each example (1 where preprocessing draws nothing); two or
            more give the record its ``se_estimator``.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()
    continuous: ClassVar[bool] = False
    bound: Bound
    examples: int = 0
    scores_given: bool = False
    variant: str = ""

    def __init__(self, draws: int = 2) -> None:
        if draws < 1:
            raise ValueError(f"estimator.draws={draws}: at least 1")
        self.draws = draws

    def check(self, model: Model) -> None:  # noqa: B027
        """Refuse options that this model cannot honour.

        Raises:
            ValueError: names the key to change.
        """

    def prepare(self, model: Model, examples: Batch | None, noise: Noise) -> Shared:
        """Measure what all rows share (log Z, a bandwidth), once before the rows; ``examples`` in model space."""
        return Shared()

    @abstractmethod
    def nll(self, model: Model, batch: Batch, noise: Noise) -> Estimate:
        """Score the rows of a batch in model space."""


# --- data ------------------------------------------------------------------------------------------------------------


class Split(ABC):
    """Examples of one split, in a fixed order.

    ``counts``: (N,) scored symbols of each row, of data that is measured per symbol (``Dataset.per``); None elsewhere.
    """

    counts: Tensor | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def gather(self, index: Tensor) -> Batch:
        """Examples by position, in data space, on the device of the split."""

    def to(self, device: torch.device) -> Split:
        """The same split with its examples on a device, where it keeps them in memory; else itself."""
        return self

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Hash of the examples and labels in order: two records compare only if it is the same."""


@dataclass(frozen=True)
class Modes:
    """The modes of a distribution: equal, round and apart.

    centres: (K, D); deviation: the standard deviation of each coordinate within a mode.
    """

    centres: Tensor
    deviation: float


class Dataset(ABC):
    """Named examples with a specification and fixed splits.

    ``entropy``: H of the true distribution in nats where it is known, so that a record can show NLL - H.
    ``modes``: of the true distribution where they are known, so that samples can be counted on them.
    ``binarization``: the named protocol that made grey data binary, or None. ``train_on``: what training reads.
    ``unit``: (low, width) of integer data whose k stands for the interval low + width [k, k+1) of a real quantity.
    ``per``: what one coordinate is of data that is measured in nats per symbol: ``char``, ``byte`` or ``symbol``; rows
    are then windows, whose given part is not scored, ``entropy`` is a rate, and the model must be Autoregressive.
    None: data is measured in nats per example.
    ``download``: whether missing files may be fetched into ``data.root``; not where a run names the folder.
    """

    name: str
    spec: Spec
    download: bool = True
    entropy: float | None = None
    modes: Modes | None = None
    binarization: str | None = None
    train_on: str = "train"
    unit: tuple[float, float] | None = None
    per: Literal["char", "byte", "symbol"] | None = None

    def protocol(self) -> dict[str, object]:
        """What else a number on this data depends on; joins the protocol of its records."""
        return {}

    @abstractmethod
    def split(self, name: str) -> Split | None:
        """``train``, ``val`` or ``test``, read at the first call; None where this data has no such split."""

    def training(self) -> Split | None:
        """What the loop reads and ``augment`` finishes: other than split("train") where examples are drawn anew."""
        return self.split("train")

    def augment(self, x: Tensor, noise: Noise) -> Tensor:
        """Training only: rows of ``training`` -> examples in data space."""
        return x

    def encode(self, text: str) -> Tensor:
        """Text as symbols (T,) of this data, for a prompt.

        Raises:
            ValueError: this data is no text, or lacks a character.
        """
        raise ValueError("sampler.prompt needs data that is text")

    def to_text(self, x: Tensor) -> list[str] | None:
        """Examples of data space as text; None where data is none."""
        return None

    def to_image(self, x: Tensor) -> Tensor | None:
        """Examples of data space as images (n, 1 or 3, H, W) in [0, 1]; None where there is nothing to look at."""
        return None


def resolve_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device, else MPS, else the CPU.

    Raises:
        ValueError: the device is not to be had on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps", "xpu"):
            raise ValueError(f"device={name}: auto, cpu, cuda, cuda:1 or mps")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={name} is not to be had here: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # or fp32 likelihoods of convolutions would have 10 bits of mantissa
    return device
