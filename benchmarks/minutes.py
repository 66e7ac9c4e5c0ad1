"""How many nats after so many minutes: the held-out NLL of digits or MNIST by gencli and by peers, at equal time.

Each training has the minutes, one thread, and a learning rate that falls to zero within them; validation and the final
measurement are not counted in. gencli is asked as users ask it, by its defaults of ``MODELS``. Peers have the loop of a
tutorial with what their users would add: the same dequantization and logit, coordinates standardised, batches of 128,
Adam at 1e-3, clipping, a cosine, and the best of ten validations. Every number is that of the whole test split in nats
of integers, by two draws of the noise of dequantization for flows: an upper bound then; PixelCNN's is exact.

    python -m benchmarks.minutes digits
    python -m benchmarks.minutes mnist --minutes 1 3 10 --only gencli zuko --models pixelcnn
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

import gencli
from benchmarks.racing import Report, arguments, benchmark, training
from gencli.core.noise import Noise, StepNoise
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.data.loading import train_batches
from gencli.run.scoring import score_split
from gencli.training.loop import Trainer

MODELS = {"digits": ["realnvp"], "mnist": ["pixelcnn", "glow"]}
"""Ours: ``gencli train model=MODEL data=DATA``."""

ROWS, RATE, VALIDATIONS, STATISTICS = 128, 1e-3, 10, 10_000
SEED, DRAWS = 0, 2

LogProb = Callable[[Tensor], Tensor]
"""Rows (B, D) -> nats (B,)."""


def zuko(dim: int) -> tuple[nn.Module, LogProb]:
    """Its neural spline flow, autoregressive, for few coordinates, its masked autoregressive flow for many."""
    from zuko.flows import MAF, NSF

    make, widths = (NSF, (128, 128)) if dim < 100 else (MAF, (512, 512))
    flow = make(dim, transforms=5, hidden_features=widths)
    return flow, lambda u: flow().log_prob(u)


def nflows(dim: int) -> tuple[nn.Module, LogProb]:
    """Its simple Real NVP with batch normalisation between couplings."""
    from nflows.flows.realnvp import SimpleRealNVP

    flow = SimpleRealNVP(dim, 128 if dim < 100 else 512, 8, 2, batch_norm_between_layers=True)
    return flow, flow.log_prob


PEERS: Mapping[str, Callable[[int], tuple[nn.Module, LogProb]]] = {"zuko": zuko, "nflows": nflows}


class Peer:
    """A peer's density on gencli's data: the same preprocessing, the same examples, a loop of its own.

    Args:
        make: coordinates -> modules and their log-density.
        trainer: of gencli, whose data and preprocessing are taken.
    """

    def __init__(self, make: Callable[[int], tuple[nn.Module, LogProb]], trainer: Trainer) -> None:
        self.trainer, self.preprocess = trainer, trainer.parts.preprocess
        torch.manual_seed(SEED)
        self.net, self.log_prob = make(trainer.parts.dataset.spec.dim)
        some = self.space(trainer.train.gather(torch.arange(min(STATISTICS, len(trainer.train)))), 0)
        self.mean, self.std = some.mean(0), some.std(0).clamp(min=1e-3)

    def space(self, batch: Batch, step: int) -> Tensor:
        return self.preprocess.batch(batch, StepNoise(torch.device("cpu"), SEED, step))[0].x

    def nll(self, u: Tensor) -> Tensor:
        return self.std.log().sum() - self.log_prob((u - self.mean) / self.std)

    @torch.no_grad()
    def score(self, split: Split, draws: int) -> float:
        """Nats an example of integers."""
        self.net.eval()

        def nll(batch: Batch, noise: Noise) -> Tensor:
            return self.nll(batch.x)

        scores = score_split(
            self.preprocess, nll, split, streams=range(draws), device=torch.device("cpu"), batch_size=500
        )
        self.net.train()
        return float(scores.nll.mean())

    def train(self, minutes: float) -> float:
        """The NLL of the test split after so many minutes of the processor."""
        trainer, budget = self.trainer, 60 * minutes
        assert trainer.validation is not None
        optimizer = torch.optim.Adam(self.net.parameters(), RATE)
        batches = train_batches(trainer.train, ROWS, SEED, device=torch.device("cpu"), workers=0)
        best: tuple[float, Any] = (math.inf, None)
        used, step, due = 0.0, 0, budget / VALIDATIONS
        while used < budget:
            began = time.process_time()
            for group in optimizer.param_groups:
                group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * used / budget))
            optimizer.zero_grad()
            loss = self.nll(self.space(next(batches), step)).mean()
            if torch.isfinite(loss):
                loss.backward()
                nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
                optimizer.step()
            step += 1
            used += time.process_time() - began
            if used >= due:
                due += budget / VALIDATIONS
                value = self.score(trainer.validation.split, 1)
                if value < best[0]:
                    best = value, copy.deepcopy(self.net.state_dict())
        if best[1] is not None:
            self.net.load_state_dict(best[1])
        test = trainer.parts.dataset.split("test")
        assert test is not None
        return self.score(test, DRAWS)


def ours(model: str, data: str, minutes: float) -> str:
    """The NLL by ``gencli train``, with its bound and what the choice of test examples leaves unsure of it."""
    with TemporaryDirectory() as folder:
        words = [f"model={model}", f"data={data}", f"trainer.max_minutes={minutes}", "trainer.eval_examples=null"]
        run = gencli.train([*words, f"run_dir={folder}/run", "logger=none", "n=0", "threads=1", f"seed={SEED}"])
        record = run.nll(split="test")
        sign = "=" if record["bound"] == "exact" else "<="
        return f"{sign} {record['value']:.2f} ± {record['se_examples']:.2f}"


def main(report: Report, data: str, minutes: list[float], only: list[str] | None, models: list[str] | None) -> None:
    found: dict[str, list[str]] = {}
    for who in only or ["gencli", *PEERS]:
        for model in (models or MODELS[data]) if who == "gencli" else [""]:
            name, cells = f"{who}, model={model}" if model else who, []
            for each in minutes:
                if model:
                    cells.append(ours(model, data, each))
                else:
                    with training([f"data={data}", "data.flatten=true", "model=gaussian"]) as trainer:
                        cells.append(f"<= {Peer(PEERS[who], trainer).train(each):.2f}")
                print(f"{name}: {each:g} minutes, {cells[-1]} nats", flush=True)
            found[name] = cells
    report.tables.append({"title": data, "minutes": minutes, "nats": found})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("data", choices=list(MODELS))
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 3.0, 10.0])
    parser.add_argument("--only", nargs="+", choices=["gencli", *PEERS])
    parser.add_argument("--models", nargs="+", help="of gencli; those of MODELS unless it is said")
    options = parser.parse_args()
    with benchmark("minutes", options.threads) as report:
        main(report, options.data, options.minutes, options.only, options.models)
