"""What the benchmarks of flows share: data, and the works of a flow by gencli, by a peer and by hand.

Everybody trains on the same rows, by batches of 256. gencli trains as ``gencli train`` does, with its defaults: AdamW,
a schedule of the learning rate, clipping, an average of the weights (EMA), the guard against numbers that are not
finite, and logs. ``gencli, Adam alone`` drops clipping, EMA and schedule. Peers and floors run the loop of a tutorial:
a random batch, loss, backward, Adam as torch has it on a CPU, which is a loop over the parameters; ``fused`` says that
it is one kernel, which gencli takes by itself. gencli's networks have the activation that it has by default, SiLU, and
those of all others ReLU, which is cheaper; ``gencli, relu`` takes it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.racing import Report, Work, race, stepper, training
from gencli.core.noise import RowNoise
from gencli.models.flows.flow import Flow

BATCH, ROWS, EXAMPLES = 256, 10_000, 20_000
"""Rows of a training step, of one call of ``log_prob`` or ``sample``, and of the training data."""

ALONE = (
    *("optimizer=adam", "optimizer.lr=1e-3", "optimizer.warmup_steps=0", "optimizer.schedule=constant"),
    *("trainer.ema_decay=0", "trainer.clip_norm=null"),
)
"""What the others' loops do: Adam, and nothing else."""

Works = Mapping[str, Work]


def gaussian(dim: int) -> Tensor:
    """Correlated Gaussian rows of mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(EXAMPLES, dim, generator=generator) @ torch.randn(dim, dim, generator=generator)
    return (x - x.mean(0)) / x.std(0)


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def log_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each row."""
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))


def works(
    model: nn.Module,
    log_prob: Callable[[Tensor], Tensor],
    sample: Callable[[int], object] | None,
    x: Tensor,
    steps: int,
    *,
    fused: bool = False,
) -> dict[str, Work]:
    """What a peer or a floor is asked to do: train ``steps`` steps, the density of ``ROWS`` rows, samples.

    Args:
        model: whose parameters are trained.
        log_prob: rows -> nats.
        sample: how many -> rows; None: it is not asked for any.
        x: the training data.
        steps: a call of ``train`` takes.
        fused: whether Adam is one kernel.
    """
    rows = x[:ROWS].clone()
    found: dict[str, Work] = {
        "parameters": lambda: count(model),
        "train": stepper(model, lambda batch: -log_prob(batch).mean(), x, steps, BATCH, fused=fused),
        "log_prob": torch.no_grad()(lambda: log_prob(rows)),
    }
    if sample is not None:
        for name, n in (("sample", ROWS), ("sample 1000", 1000), ("sample 16", 16)):
            found[name] = partial(torch.no_grad()(sample), n)
    return found


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@contextmanager
def ours(overrides: Sequence[str], x: Tensor, steps: int) -> Iterator[dict[str, Work]]:
    """The same of ``gencli train OVERRIDES`` on these rows, its model as ``eval`` and ``sample`` call it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        np.savez(path, train=x.numpy())
        data = ["data=array", f"data.path={path}", f"trainer.batch_size={BATCH}"]
        with training([*overrides, *data]) as trainer:
            model, rows = trainer.parts.model, x[:ROWS].clone()
            assert isinstance(model, Flow)
            yield {
                "parameters": lambda: count(model),
                "train": lambda: trainer.steps(steps),
                "log_prob": torch.no_grad()(lambda: model.eval().log_prob(rows)),
                "sample": torch.no_grad()(lambda: model.eval().sample(ROWS, noise=noise(ROWS))),
                "sample 1000": torch.no_grad()(lambda: model.eval().sample(1000, noise=noise(1000))),
            }


def noise(rows: int) -> RowNoise:
    return RowNoise(0, torch.arange(rows))


def floors(
    make: Callable[[], nn.Module], x: Tensor, steps: int, *, compiled: bool = False
) -> dict[str, dict[str, Work]]:
    """The loops by hand over a model with ``log_prob`` and perhaps ``sample``, each over a new one.

    Args:
        make: gives the model.
        x: the training data.
        steps: a call of ``train`` takes.
        compiled: a third one, compiled, which takes half a minute to begin.
    """

    def of(fused: bool, wrap: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]) -> dict[str, Work]:
        torch.manual_seed(0)
        model = make()
        log_prob: Callable[..., Tensor] = getattr(model, "log_prob")  # noqa: B009
        sample: Callable[..., Tensor] | None = getattr(model, "sample", None)
        return works(model, wrap(log_prob), sample and wrap(sample), x, steps, fused=fused)

    found = {"bare loop": of(False, lambda f: f), "bare loop, fused": of(True, lambda f: f)}
    if compiled:
        found["bare loop, compiled and fused"] = of(True, torch.compile)
    return found


def compare(report: Report, title: str, who: Mapping[str, Works], what: str, rounds: int, steps: int = 0) -> None:
    """Race one work of everybody who has it, with the numbers of their parameters."""
    table = {name: named[what] for name, named in who.items() if what in named}
    for work in table.values():
        work()  # compiles, and finds its memory
    report.table(title, race(table, rounds), steps)
    report.tables[-1]["parameters"] = {name: who[name]["parameters"]() for name in table}


def say_sizes(who: Mapping[str, Works]) -> None:
    """Print the numbers of parameters, which say how alike architectures are."""
    print("parameters: " + ", ".join(f"{name} {named['parameters']():,}" for name, named in who.items()))


@contextmanager
def variants(
    overrides: Sequence[str], x: Tensor, steps: int, *, relu: str = "", compiled: bool = False
) -> Iterator[dict[str, Works]]:
    """gencli with its defaults, with Adam alone, with ReLU, compiled.

    Args:
        overrides: of ``gencli train``.
        x: the training data.
        steps: a call of ``train`` takes.
        relu: the override that gives the networks the activation of all others; empty: they have it.
        compiled: whether there is a compiled one.
    """
    with (
        ours(overrides, x, steps) as plain,
        ours([*overrides, *ALONE], x, steps) as alone,
        ours([*overrides, relu], x, steps) if relu else nullcontext() as same,
        ours([*overrides, "trainer.compile=true"], x, steps) if compiled else nullcontext() as quick,
    ):
        found: dict[str, Works] = {
            "gencli": plain,
            "gencli, Adam alone": {k: alone[k] for k in ("parameters", "train")},
        }
        if same:
            found["gencli, relu"] = same
        if quick:
            found["gencli, compiled"] = {key: quick[key] for key in ("parameters", "train")}
        yield found
