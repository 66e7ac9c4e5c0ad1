"""A VAE 784-200-200-50 on bits: training steps a second at batch 100, and the NLL of 100 images by 5,000 samples each.

gencli's trainer and estimator against what a researcher writes by hand, and against pythae where it is installed, in
one run on one thread. Rounds are interleaved and medians of CPU seconds compared: only the ratios mean something.

    python -m benchmarks.vae
    python -m benchmarks.vae --compile
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.racing import Report, Work, arguments, benchmark, race, stepper, training
from gencli.core.noise import RowNoise
from gencli.core.spec import Batch
from gencli.estimators.base import Shared
from gencli.estimators.iwae import IWAE
from gencli.models.base import LatentVariable

STEPS, BATCH, LATENT = 60, 100, 50
IMAGES, SAMPLES = 100, 5000


class Bare(nn.Module):
    """The model as a tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh())
        self.mean, self.log_var = nn.Linear(200, LATENT), nn.Linear(200, LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(x)
        mean, log_var = self.mean(h), self.log_var(h)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
        bce = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(1)
        return (bce - 0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum(1)).mean()

    @torch.no_grad()
    def nll(self, x: Tensor, k: int) -> Tensor:
        """A row at a time, encoded once, its samples decoded a thousand at a time; x . logits is a matrix product."""
        values = []
        h = self.encoder(x)
        for row, mean, log_std in zip(x, self.mean(h), 0.5 * self.log_var(h), strict=True):
            pieces = []
            for _ in range(k // 1000):
                eps = torch.randn(1000, LATENT)
                z = mean + eps * log_std.exp()
                logits = self.decoder(z)
                log_x = logits @ row - F.softplus(logits).sum(1)
                pieces.append(log_x - 0.5 * z.square().sum(1) + 0.5 * eps.square().sum(1) + log_std.sum())
            values.append(math.log(k) - torch.cat(pieces).logsumexp(0))
        return torch.stack(values)


def pythae_model() -> Any:
    """The same network in pythae, or None."""
    try:
        from pythae.models import VAE, VAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
    except ImportError:
        return None

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.bare = Bare()

        def forward(self, x: Tensor) -> ModelOutput:
            h = self.bare.encoder(x.flatten(1))
            return ModelOutput(embedding=self.bare.mean(h), log_covariance=self.bare.log_var(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.bare = Bare()

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.bare.decoder(z).sigmoid().view(-1, 1, 28, 28))

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(), decoder=Decoder())


def main(report: Report, rounds: int, compiled: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(STEPS * BATCH, 784, generator=generator) < 0.2).to(torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bits.npz"
        np.savez(path, train=x.view(-1, 28, 28).numpy())
        overrides = [
            *("model=vae", "net@model.net=mlp", "model.net.hidden=[200,200]", "model.net.activation=tanh"),
            *(f"model.latent={LATENT}", "data=array", f"data.path={path}", "data.support=binary"),
            f"trainer.batch_size={BATCH}",
        ]
        with (
            training(overrides) as trainer,
            training([*overrides, "trainer.compile=true"]) if compiled else nullcontext() as quick,
        ):
            model = trainer.parts.model
            assert isinstance(model, LatentVariable)
            learning: dict[str, Work] = {"gencli": lambda: trainer.steps(STEPS)}
            if quick:
                learning["gencli, compiled"] = lambda: quick.steps(STEPS)
            compare(report, x, model, learning, rounds)


def compare(report: Report, x: Tensor, model: LatentVariable, learning: dict[str, Work], rounds: int) -> None:
    bare, fused = Bare(), Bare()
    learning["bare loop"] = stepper(bare, bare, x, STEPS, BATCH)
    learning["bare fused loop"] = stepper(fused, fused, x, STEPS, BATCH, fused=True)
    some, estimator = x[:IMAGES].float().view(-1, 1, 28, 28), IWAE(k=SAMPLES)

    @torch.no_grad()
    def gencli_nll() -> Tensor:
        noise = RowNoise(0, torch.arange(IMAGES))
        return estimator.nll(model, Batch(some), noise, Shared("upper")).nll

    scoring: dict[str, Callable[[], object]] = {
        "gencli": gencli_nll,
        "bare loop": lambda: bare.nll(some.flatten(1), SAMPLES),
    }
    peer = pythae_model()
    if peer is not None:
        images = x.view(-1, 1, 28, 28)
        learning["pythae"] = stepper(peer, lambda rows: peer({"data": rows}).loss, images, STEPS, BATCH)
        scoring["pythae"] = lambda: peer.get_nll(some, n_samples=SAMPLES)

    report.table(f"training, batch {BATCH}", race(learning, rounds), STEPS)
    report.table(f"NLL of {IMAGES} images with {SAMPLES} samples", race(scoring, 1))


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--compile", action="store_true", help="gencli compiled, too")
    options = parser.parse_args()
    with benchmark("vae", options.threads) as report:
        main(report, options.rounds, options.compile)
