"""An RBM of 500 hidden units on binarized MNIST: training by CD-1 at batch 100.

gencli's trainer against what a researcher writes by hand, with the gradient by autograd of the free energies, as
tutorials have it, or as two outer products; Adam for all, on one thread, in interleaved rounds.

    python -m benchmarks.rbm      needs data=binarized_mnist
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.racing import benchmark, race, stepper, training

HIDDEN, BATCH, STEPS, ROUNDS = 500, 100, 100, 9
OPTIONS = ["model=rbm", "data=binarized_mnist", "objective=cd", "objective.steps=1", "estimator=null", "optimizer=adam"]
OPTIONS += [f"model.hidden={HIDDEN}", f"trainer.batch_size={BATCH}", "trainer.clip_norm=null", "trainer.ema_decay=0"]


class Bare(nn.Module):
    """The machine as a tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Parameter(torch.zeros(784)), nn.Parameter(torch.zeros(HIDDEN))
        self.W = nn.Parameter(0.01 * torch.randn(HIDDEN, 784))

    def free_energy(self, v: Tensor) -> Tensor:
        return -v @ self.a - F.softplus(F.linear(v, self.W, self.c)).sum(1)

    def resample(self, v: Tensor) -> tuple[Tensor, Tensor]:
        p = F.linear(v, self.W, self.c).sigmoid()
        return torch.bernoulli(F.linear(p.bernoulli(), self.W.T, self.a).sigmoid()), p

    def by_autograd(self, v: Tensor) -> Tensor:
        v = v.flatten(1)
        with torch.no_grad():
            chain, _ = self.resample(v)
        return self.free_energy(v).mean() - self.free_energy(chain).mean()


class Outer(nn.Module):
    """The same with gradients by hand, behind the interface of a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.bare = Bare()

    @torch.no_grad()
    def step(self, v: Tensor, optimizer: torch.optim.Optimizer) -> None:
        v, bare = v.flatten(1), self.bare
        chain, p = bare.resample(v)
        q = F.linear(chain, bare.W, bare.c).sigmoid()
        n = len(v)
        bare.W.grad = (q.T @ chain - p.T @ v) / n
        bare.a.grad = (chain - v).mean(0)
        bare.c.grad = (q - p).mean(0)
        optimizer.step()


def main() -> None:
    with benchmark("rbm") as report, training(OPTIONS) as trainer:
        split = trainer.parts.dataset.split("train")
        assert split is not None
        x = split.gather(torch.arange(STEPS * BATCH)).x.float()
        bare, outer = Bare(), Outer()
        optimizer = torch.optim.Adam(outer.parameters(), 1e-3)

        def by_hand() -> None:
            order = torch.randperm(len(x))
            for i in range(STEPS):
                outer.step(x[order[i * BATCH : (i + 1) * BATCH]], optimizer)

        works = {
            "gencli": lambda: trainer.steps(STEPS),
            "plain, by autograd": stepper(bare, bare.by_autograd, x, STEPS, BATCH),
            "plain, by outer products": by_hand,
        }
        report.table("CD-1", race(works, ROUNDS), STEPS)


if __name__ == "__main__":
    main()
