"""Masked autoregressive flow of 64 coordinates: training steps a second, and seconds for the density and for samples.

5 transforms with hidden layers of 512 and 512; gencli beside nflows, normflows and zuko, and beside loops by hand.
Samples: 1,000 rows of 64 coordinates; with ``--long`` 16 rows of 784 too, of a quarter of a minute for each peer.

What is equal: transforms, widths, data, batch, the reversed order between transforms. What is not: gencli has an
ActNorm before each transform and after the last one, which makes a few parameters more, and a tanh that bounds the
log-scale; so has the floor. normflows has no activation after the first hidden layer, which is a little less work; its
masked transform is turned around, for as it stands it samples quickly and its density is the sequential one.
``benchmarks.flows`` says what is not equal in the loops; the activation is ReLU everywhere.

    python -m benchmarks.autoregressive_flow
    python -m benchmarks.autoregressive_flow --long --compile
"""

from __future__ import annotations

import functools
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.flows import Works, compare, floors, gaussian, log_normal, noise, say_sizes, variants, works
from benchmarks.racing import Report, Work, arguments, benchmark, peers, race
from gencli.core.spec import Spec, Support
from gencli.models.flows.autoregressive import AffineAutoregressive

DIM, WIDE, TRANSFORMS, HIDDEN, STEPS = 64, 784, 5, 512, 8


class Masked(nn.Linear):
    """A layer whose weight is multiplied by a mask at each pass."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.get_buffer("mask"), self.bias)


class Bare(nn.Module):
    """The model by hand, density only: the order is reversed by ``flip``."""

    def __init__(self) -> None:
        super().__init__()
        unit = torch.arange(HIDDEN) * (DIM - 1) // HIDDEN + 1
        coordinate = torch.arange(1, DIM + 1)
        degrees = [coordinate, unit, unit]
        masks = [b[:, None] >= a for a, b in pairwise(degrees)] + [(coordinate[:, None] > unit).repeat(2, 1)]
        self.nets = nn.ModuleList()
        for _ in range(TRANSFORMS):
            a, b, c = (Masked(mask) for mask in masks)
            self.nets.append(nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c))

    def log_prob(self, x: Tensor) -> Tensor:
        log_det = x.new_zeros(len(x))
        for net in self.nets:
            shift, s = net(x).chunk(2, 1)
            s = torch.tanh(s)
            x = (x * s.exp() + shift).flip(1)
            log_det = log_det + s.sum(1)
        return log_normal(x) + log_det


def zuko(dim: int, x: Tensor) -> Works:
    from zuko.flows import MAF

    flow = MAF(dim, transforms=TRANSFORMS, hidden_features=(HIDDEN, HIDDEN))
    return works(flow, lambda rows: flow().log_prob(rows), lambda n: flow().sample((n,)), x, STEPS)


def nflows(dim: int, x: Tensor) -> Works:
    from nflows.flows import MaskedAutoregressiveFlow

    flow = MaskedAutoregressiveFlow(dim, HIDDEN, TRANSFORMS, num_blocks_per_layer=1, use_residual_blocks=False)
    return works(flow, flow.log_prob, flow.sample, x, STEPS)


def normflows(dim: int, x: Tensor) -> Works:
    import normflows as nf

    flows = []
    for _ in range(TRANSFORMS):
        made = nf.flows.MaskedAffineAutoregressive(dim, HIDDEN, num_blocks=1, use_residual_blocks=False)
        flows += [nf.flows.Reverse(made), nf.flows.Permute(dim, mode="swap")]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(dim, trainable=False), flows)
    return works(flow, flow.log_prob, lambda n: flow.sample(n)[0], x, STEPS)


MAKERS = {"nflows": nflows, "normflows": normflows, "zuko": zuko}


def made(dim: int, x: Tensor) -> dict[str, Works]:
    """The works of the peers that are installed."""
    return dict(peers({name: functools.partial(make, dim, x) for name, make in MAKERS.items()}))


def main(report: Report, rounds: int, long: bool, compiled: bool) -> None:
    x = gaussian(DIM)
    overrides = ["model=maf", f"model.transforms={TRANSFORMS}", f"model.hidden=[{HIDDEN},{HIDDEN}]"]
    with variants(overrides, x, STEPS, compiled=compiled) as ours:
        others = made(DIM, x)
        who = {**ours, **others, **floors(Bare, x, STEPS, compiled=compiled)}
        say_sizes(who)
        compare(report, "training", who, "train", rounds, STEPS)
        compare(report, "log_prob of 10,000 rows", who, "log_prob", rounds)
        compare(report, f"1,000 samples of {DIM} coordinates", {"gencli": ours["gencli"], **others}, "sample 1000", 2)
    if long:
        report.table(f"16 samples of {WIDE} coordinates", race(wide(), 1))


def wide() -> dict[str, Work]:
    """16 samples of 784 coordinates, by each."""
    model = AffineAutoregressive(Spec((WIDE,), Support("real")), transforms=TRANSFORMS, hidden=[HIDDEN, HIDDEN]).eval()
    found: dict[str, Work] = {"gencli": torch.no_grad()(lambda: model.sample(16, noise=noise(16)))}
    return found | {name: named["sample 16"] for name, named in made(WIDE, torch.zeros(1, WIDE)).items()}


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--long", action="store_true", help="16 samples of 784 coordinates too: a minute longer")
    parser.add_argument("--compile", action="store_true", help="gencli compiled, and a floor compiled: minutes longer")
    options = parser.parse_args()
    with benchmark("autoregressive_flow", options.threads) as report:
        main(report, options.rounds, options.long, options.compile)
