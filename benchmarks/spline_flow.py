"""Neural spline flows of 43 coordinates: training steps a second, and seconds for the density and for samples.

5 transforms of 8 rational-quadratic pieces on [-5, 5], hidden layers of 256 and 256; couplings and, where a package has
them, autoregressive transforms. gencli beside nflows, normflows and zuko; loops by hand for the couplings.

What is equal: transforms, pieces, bound, widths, data, batch, and the networks of couplings, which nflows and
normflows take from here. What is not: gencli alone has an ActNorm before each transform and after the last one (a few
parameters more); of zuko's two couplings the one is raced that is plain, ``NICE`` with splines; normflows'
autoregressive network has no activation after the first hidden layer. gencli's masks are fixed, as the others' are
(``model.mixing=masks``; by default it mixes by learned linear maps). ``benchmarks.flows`` says what is not equal in
the loops.

    python -m benchmarks.spline_flow
    python -m benchmarks.spline_flow --compile
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.flows import Works, compare, floors, gaussian, log_normal, mlp, say_sizes, variants, works
from benchmarks.racing import Report, arguments, benchmark, peers

DIM, TRANSFORMS, HIDDEN, BINS, BOUND, STEPS = 43, 5, 256, 8, 5.0, 6
MASK = torch.arange(DIM) % 2


class Net(nn.Module):
    """A network as the couplings of nflows and normflows call it."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.net = mlp([n_in, HIDDEN, HIDDEN, n_out])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(x)


def knots(raw: Tensor) -> Tensor:
    """(..., K) unconstrained -> (..., K + 1) knots from -BOUND to BOUND."""
    share = 1e-3 + (1 - 1e-3 * BINS) * raw.softmax(-1)
    return F.pad(share.cumsum(-1) * 2 * BOUND, (1, 0)) - BOUND


def spline(v: Tensor, params: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """The spline by hand: v (..., D), params (..., D, 3 K - 1) -> values and log slopes of the way forward."""
    x, y = knots(params[..., :BINS]), knots(params[..., BINS : 2 * BINS])
    slopes = F.pad(F.softplus(params[..., 2 * BINS :]) + 1e-3, (1, 1), value=1.0)
    inside = v.clamp(-BOUND, BOUND)[..., None]
    k = torch.searchsorted((y if inverse else x)[..., 1:-1].contiguous(), inside)
    x0, x1, y0, y1 = x.gather(-1, k), x.gather(-1, k + 1), y.gather(-1, k), y.gather(-1, k + 1)
    d0, d1 = slopes.gather(-1, k), slopes.gather(-1, k + 1)
    w, h = x1 - x0, y1 - y0
    s = h / w
    if inverse:
        rise = inside - y0
        bent = rise * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + bent, h * d0 - bent, -s * rise
        theta = 2 * c / (-b - (b * b - 4 * a * c).clamp(min=0).sqrt())
        out = x0 + theta * w
    else:
        theta = (inside - x0) / w
        out = y0 + h * (s * theta**2 + d0 * theta * (1 - theta)) / (s + (d0 + d1 - 2 * s) * theta * (1 - theta))
    bend = theta * (1 - theta)
    slope = s**2 * (d1 * theta**2 + 2 * s * bend + d0 * (1 - theta) ** 2) / (s + (d0 + d1 - 2 * s) * bend) ** 2
    tail = v.abs() >= BOUND
    return torch.where(tail, v, out.squeeze(-1)), torch.where(tail, 0.0, slope.squeeze(-1).log())


class Bare(nn.Module):
    """Couplings by hand: parts of 22 and of 21 coordinates change places, and are never put together."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [DIM // 2, DIM - DIM // 2]
        self.nets = nn.ModuleList(Net(sizes[i % 2], sizes[1 - i % 2] * (3 * BINS - 1)) for i in range(TRANSFORMS))

    def log_prob(self, x: Tensor) -> Tensor:
        a, b = x.split([DIM // 2, DIM - DIM // 2], 1)
        log_det = x.new_zeros(len(x))
        for net in self.nets:
            z, log_slope = spline(b, net(a).view(*b.shape, -1))
            log_det = log_det + log_slope.sum(1)
            a, b = z, a
        return log_normal(a) + log_normal(b) + log_det

    def sample(self, n: int) -> Tensor:
        sizes = [DIM // 2, DIM - DIM // 2]
        a, b = torch.randn(n, DIM).split(sizes if TRANSFORMS % 2 == 0 else sizes[::-1], 1)
        for net in reversed(self.nets):
            a, b = b, spline(a, net(b).view(*a.shape, -1), inverse=True)[0]
        return torch.cat([a, b], 1)


def of_nflows(transforms: Sequence[nn.Module], x: Tensor) -> Works:
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.transforms import CompositeTransform

    flow = Flow(CompositeTransform(transforms), StandardNormal([DIM]))
    return works(flow, flow.log_prob, flow.sample, x, STEPS)


def nflows(x: Tensor) -> Works:
    from nflows.transforms import PiecewiseRationalQuadraticCouplingTransform as Coupling

    options = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}
    return of_nflows([Coupling(MASK if i % 2 else 1 - MASK, Net, **options) for i in range(TRANSFORMS)], x)


def nflows_autoregressive(x: Tensor) -> Works:
    from nflows.transforms import MaskedPiecewiseRationalQuadraticAutoregressiveTransform as Autoregressive
    from nflows.transforms import ReversePermutation

    options = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND, "num_blocks": 1, "use_residual_blocks": False}
    pairs = [(ReversePermutation(DIM), Autoregressive(DIM, HIDDEN, **options)) for _ in range(TRANSFORMS)]
    return of_nflows([transform for pair in pairs for transform in pair], x)


def of_normflows(flows: Sequence[nn.Module], x: Tensor) -> Works:
    import normflows as nf

    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(DIM, trainable=False), flows)
    return works(flow, flow.log_prob, lambda n: flow.sample(n)[0], x, STEPS)


def normflows(x: Tensor) -> Works:
    import normflows as nf
    from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling as Coupling

    options = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}
    masks = [MASK if i % 2 else 1 - MASK for i in range(TRANSFORMS)]
    return of_normflows([nf.flows.Reverse(Coupling(mask, Net, **options)) for mask in masks], x)


def normflows_autoregressive(x: Tensor) -> Works:
    import normflows as nf
    from normflows.flows.neural_spline import autoregressive

    flows = []
    for _ in range(TRANSFORMS):
        transform = autoregressive.MaskedPiecewiseRationalQuadraticAutoregressive(
            DIM, HIDDEN, num_bins=BINS, tails="linear", tail_bound=BOUND, num_blocks=1, use_residual_blocks=False
        )
        flows += [nf.flows.Reverse(transform), nf.flows.Permute(DIM, mode="swap")]
    return of_normflows(flows, x)


def zuko(x: Tensor) -> Works:
    from zuko.flows import NICE
    from zuko.transforms import MonotonicRQSTransform

    shapes = [(BINS,), (BINS,), (BINS - 1,)]
    widths = (HIDDEN, HIDDEN)
    flow = NICE(DIM, transforms=TRANSFORMS, hidden_features=widths, univariate=MonotonicRQSTransform, shapes=shapes)
    return works(flow, lambda rows: flow().log_prob(rows), lambda n: flow().sample((n,)), x, STEPS)


def zuko_autoregressive(x: Tensor) -> Works:
    from zuko.flows import NSF

    flow = NSF(DIM, transforms=TRANSFORMS, bins=BINS, hidden_features=(HIDDEN, HIDDEN))
    return works(flow, lambda rows: flow().log_prob(rows), lambda n: flow().sample((n,)), x, STEPS)


def couplings(report: Report, x: Tensor, rounds: int, compiled: bool) -> None:
    overrides = ["model=nsf_coupling", "model.mixing=masks", f"model.couplings={TRANSFORMS}", f"model.bins={BINS}"]
    overrides += [f"model.bound={BOUND}", f"model.net.vector.hidden=[{HIDDEN},{HIDDEN}]"]
    makers = {"nflows": lambda: nflows(x), "normflows": lambda: normflows(x), "zuko": lambda: zuko(x)}
    with variants(overrides, x, STEPS, relu="+model.net.vector.activation=relu", compiled=compiled) as ours:
        who = {**ours, **peers(makers), **floors(Bare, x, STEPS, compiled=compiled)}
        say_sizes(who)
        compare(report, "couplings: training", who, "train", rounds, STEPS)
        compare(report, "couplings: log_prob of 10,000 rows", who, "log_prob", rounds)
        compare(report, "couplings: 10,000 samples", who, "sample", rounds)


def autoregressive(report: Report, x: Tensor, rounds: int, compiled: bool) -> None:
    overrides = ["model=nsf_ar", f"model.transforms={TRANSFORMS}", f"model.hidden=[{HIDDEN},{HIDDEN}]"]
    overrides += [f"model.bins={BINS}", f"model.bound={BOUND}"]
    makers = {
        "nflows": lambda: nflows_autoregressive(x),
        "normflows": lambda: normflows_autoregressive(x),
        "zuko": lambda: zuko_autoregressive(x),
    }
    with variants(overrides, x, STEPS, compiled=compiled) as ours:
        who = {**ours, **peers(makers)}
        say_sizes(who)
        compare(report, "autoregressive: training", who, "train", rounds, STEPS)
        compare(report, "autoregressive: log_prob of 10,000 rows", who, "log_prob", rounds)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--only", choices=("couplings", "autoregressive"), help="one of the two")
    parser.add_argument("--compile", action="store_true", help="gencli compiled, and a floor compiled: minutes longer")
    options = parser.parse_args()
    with benchmark("spline_flow", options.threads) as report:
        for race_of in (couplings, autoregressive):
            if options.only in (None, race_of.__name__):
                race_of(report, gaussian(DIM), options.rounds, options.compile)
