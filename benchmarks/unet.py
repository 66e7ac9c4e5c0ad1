"""A U-Net of 2.6 million parameters on 32x32x1, batch 32: training steps a second, and 16 images by 50 DDIM steps.

gencli's trainer and sampler against denoising-diffusion-pytorch where it is installed (`pip install
denoising-diffusion-pytorch`), in one run on one thread: interleaved rounds, medians of CPU seconds.

    python -m benchmarks.unet
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.racing import Report, benchmark, race, training
from gencli.core.noise import RowNoise
from gencli.core.torchvision_compat import torchvision
from gencli.models.base import TimeField
from gencli.samplers.diffusion.ddim import DDIM

STEPS, BATCH, SIDE, IMAGES = 2, 32, 32, 16


def peer() -> tuple[nn.Module, Callable[[], Tensor]] | None:
    """Diffusion of the same size in denoising-diffusion-pytorch and its DDIM sampler, or None."""
    torchvision()
    try:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    except ImportError:
        print("denoising-diffusion-pytorch is not installed: gencli alone")
        return None
    net = Unet(dim=32, dim_mults=(1, 2, 4), channels=1, flash_attn=False)
    diffusion = GaussianDiffusion(net, image_size=SIDE, timesteps=1000, sampling_timesteps=50)
    print(f"denoising-diffusion-pytorch: {sum(p.numel() for p in net.parameters()):,} parameters")
    return diffusion, lambda: diffusion.sample(batch_size=IMAGES)


def main(report: Report) -> None:
    images = torch.randint(0, 256, (256, 1, SIDE, SIDE), dtype=torch.uint8)
    with TemporaryDirectory() as folder:
        np.savez(Path(folder) / "images.npz", train=images.numpy())
        overrides = [
            *("model=ddpm", "net@model.net=unet", "model.net.multipliers=[1,2,4]", "model.net.width=30"),
            *("model.net.groups=6", "model.net.heads=4", "data=array", f"data.path={folder}/images.npz"),
            *("data.support=levels:256", "data.transform=scale", f"trainer.batch_size={BATCH}"),
        ]
        with training(overrides) as trainer, training([*overrides, "trainer.precision=bf16"]) as half:
            model = trainer.parts.model
            assert isinstance(model, TimeField)
            print(f"gencli: {sum(p.numel() for p in model.parameters()):,} parameters")
            sampler, noise = DDIM(steps=50), RowNoise(0, torch.arange(IMAGES))

            @torch.no_grad()
            def draw() -> Tensor:
                return sampler.sample(model, IMAGES, None, noise).x

            learning = {"gencli": lambda: trainer.steps(STEPS), "gencli, bf16": lambda: half.steps(STEPS)}
            sampling: dict[str, Callable[[], object]] = {"gencli": draw}
            other = peer()
            if other is not None:
                diffusion, sampling["denoising-diffusion-pytorch"] = other
                optimizer = torch.optim.Adam(diffusion.parameters(), 1e-4)
                x = images.float() / 255

                def peer_steps() -> None:
                    for i in range(STEPS):
                        optimizer.zero_grad()
                        diffusion(x[i * BATCH : (i + 1) * BATCH]).backward()
                        optimizer.step()

                learning["denoising-diffusion-pytorch"] = peer_steps
            report.table(f"training, batch {BATCH}", race(learning, 4), STEPS)
            report.table(f"{IMAGES} images by 50 DDIM steps", race(sampling, 1))


if __name__ == "__main__":
    with benchmark("unet") as report:
        main(report)
