"""Real NVP of 64 coordinates: training steps a second, and seconds for the density and for samples of 10,000 rows.

8 affine couplings with networks 32-128-128-64 and fixed masks; gencli beside nflows, normflows, zuko and FrEIA, and
beside loops by hand over the peers' architecture.

What is equal: couplings, widths, data, batch. What is not: the scale, which is bounded by a tanh in gencli (3.0) and in
the floor (1.0), by a sigmoid in nflows, softly in zuko and FrEIA, and not at all in normflows; FrEIA's 4 blocks couple
both halves; gencli has an ActNorm before each coupling and after the last one, which is why it has a few parameters
more, and SiLU; its marginal splines are off. With ``--same`` the architecture is equal: all others have ActNorm there
too, by their own class (zuko has none), and gencli has ReLU. ``benchmarks.flows`` says what is not equal in the loops.

    python -m benchmarks.coupling_flow
    python -m benchmarks.coupling_flow --same
    python -m benchmarks.coupling_flow --compile    # and what is compiled; a minute longer
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from benchmarks.flows import Works, compare, floors, gaussian, log_normal, mlp, say_sizes, variants, works
from benchmarks.racing import Report, arguments, benchmark, peers

DIM, COUPLINGS, HIDDEN, STEPS = 64, 8, 128, 30
WIDTHS = [DIM // 2, HIDDEN, HIDDEN, DIM]


class Bare(nn.Module):
    """The model by hand: halves change places, and are never put together."""

    def __init__(self, actnorm: bool) -> None:
        super().__init__()
        self.nets = nn.ModuleList(mlp(WIDTHS) for _ in range(COUPLINGS))
        norms = COUPLINGS + 1 if actnorm else 0
        self.s, self.t = (nn.ParameterList(torch.zeros(DIM) for _ in range(norms)) for _ in "st")

    def log_prob(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        log_det = x.new_zeros(len(x))
        for place, net in enumerate(self.nets):
            a, b, log_det = self.normed(place, a, b, log_det)
            shift, s = net(a).chunk(2, 1)
            s = torch.tanh(s)
            log_det = log_det + s.sum(1)
            a, b = b * s.exp() + shift, a
        a, b, log_det = self.normed(COUPLINGS, a, b, log_det)
        return log_normal(a) + log_normal(b) + log_det

    def normed(self, place: int, a: Tensor, b: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.s:
            return a, b, log_det
        (s_a, s_b), (t_a, t_b) = self.s[place].exp().chunk(2), self.t[place].chunk(2)
        return a * s_a + t_a, b * s_b + t_b, log_det + self.s[place].sum()

    def sample(self, n: int) -> Tensor:
        a, b = self.restored(COUPLINGS, *torch.randn(n, DIM).chunk(2, 1))
        for place in reversed(range(COUPLINGS)):
            shift, s = self.nets[place](b).chunk(2, 1)
            a, b = self.restored(place, b, (a - shift) * torch.exp(-torch.tanh(s)))
        return torch.cat([a, b], 1)

    def restored(self, place: int, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if not self.s:
            return a, b
        (s_a, s_b), (t_a, t_b) = torch.exp(-self.s[place]).chunk(2), self.t[place].chunk(2)
        return (a - t_a) * s_a, (b - t_b) * s_b


def nflows(x: Tensor, actnorm: bool) -> Works:
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.nn.nets import MLP
    from nflows.transforms import ActNorm, AffineCouplingTransform, CompositeTransform

    class Net(MLP):
        def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
            return super().forward(inputs)

    def net(n_in: int, n_out: int) -> nn.Module:
        return Net([n_in], [n_out], [HIDDEN, HIDDEN])

    mask = torch.arange(DIM) % 2 * 2 - 1
    layers: list[nn.Module] = []
    for i in range(COUPLINGS):
        layers += [ActNorm(DIM)] if actnorm else []
        layers.append(AffineCouplingTransform(mask if i % 2 else -mask, net))
    layers += [ActNorm(DIM)] if actnorm else []
    flow = Flow(CompositeTransform(layers), StandardNormal([DIM]))
    return works(flow, flow.log_prob, flow.sample, x, STEPS)


def normflows(x: Tensor, actnorm: bool) -> Works:
    import normflows as nf

    flows = [nf.flows.ActNorm(DIM)] if actnorm else []
    for _ in range(COUPLINGS):
        flows += [
            nf.flows.AffineCouplingBlock(nf.nets.MLP(WIDTHS, init_zeros=True)),
            nf.flows.Permute(DIM, mode="swap"),
            *([nf.flows.ActNorm(DIM)] if actnorm else []),
        ]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(DIM, trainable=False), flows)
    return works(flow, flow.log_prob, flow.sample, x, STEPS)


def zuko(x: Tensor, actnorm: bool) -> Works:
    from zuko.flows import RealNVP

    flow = RealNVP(DIM, transforms=COUPLINGS, hidden_features=(HIDDEN, HIDDEN))
    return works(flow, lambda rows: flow().log_prob(rows), lambda n: flow().sample((n,)), x, STEPS)


def freia(x: Tensor, actnorm: bool) -> Works:
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import ActNorm, GLOWCouplingBlock

    flow = SequenceINN(DIM)
    for _ in range(COUPLINGS // 2):
        if actnorm:
            flow.append(ActNorm)
        flow.append(GLOWCouplingBlock, subnet_constructor=lambda a, b: mlp([a, HIDDEN, HIDDEN, b]), clamp=2.0)
    if actnorm:
        flow.append(ActNorm)

    def log_prob(rows: Tensor) -> Tensor:
        z, log_det = flow(rows)
        return log_normal(z) + log_det

    return works(flow, log_prob, lambda n: flow(torch.randn(n, DIM), rev=True)[0], x, STEPS)


def main(report: Report, rounds: int, compiled: bool, same: bool) -> None:
    x = gaussian(DIM)
    overrides = ["model=realnvp", "model.marginal=0", f"model.couplings={COUPLINGS}"]
    overrides.append(f"model.net.vector.hidden=[{HIDDEN},{HIDDEN}]")
    relu = "+model.net.vector.activation=relu"
    makers = {"nflows": nflows, "normflows": normflows, "zuko": zuko, "FrEIA": freia}
    called = {name: f"{name}, without ActNorm" if same and make is zuko else name for name, make in makers.items()}
    taken = [*overrides, *([relu] if same else [])]
    with variants(taken, x, STEPS, relu="" if same else relu, compiled=compiled) as ours:
        others = peers({called[name]: functools.partial(make, x, same) for name, make in makers.items()})
        who = {**ours, **others, **floors(functools.partial(Bare, same), x, STEPS, compiled=compiled)}
        say_sizes(who)
        compare(report, "training", who, "train", rounds, STEPS)
        compare(report, "log_prob of 10,000 rows", who, "log_prob", rounds)
        compare(report, "10,000 samples", who, "sample", rounds)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--compile", action="store_true", help="gencli compiled, and a floor compiled")
    parser.add_argument("--same", action="store_true", help="ActNorm and ReLU for all")
    options = parser.parse_args()
    with benchmark("coupling_flow", options.threads) as report:
        main(report, options.rounds, options.compile, options.same)
