"""An epoch of MNIST in shuffled batches of 256 floats: gencli's loader against torchvision's with a DataLoader.

GENCLI_DATA=... python -m benchmarks.inputs
"""

from __future__ import annotations

from itertools import count

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.racing import Report, benchmark, race
from gencli.config.compose import compose
from gencli.core.torchvision_compat import torchvision
from gencli.data.loading import train_batches
from gencli.run.assembly import assemble

BATCH, ROUNDS = 256, 4


class _Files(Dataset[torch.Tensor]):
    """torchvision's way: one PIL image a row through ToTensor."""

    def __init__(self, images: torch.Tensor) -> None:
        from PIL import Image

        self.make, self.images = Image.fromarray, images.squeeze(1).numpy()
        self.to_tensor = torchvision("transforms").ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.to_tensor(self.make(self.images[index], mode="L"))


def main(report: Report) -> None:
    parts = assemble(compose("train", ["data=mnist", "model=realnvp", "device=cpu"]))
    split = parts.dataset.split("train")
    assert split is not None
    images = split.gather(torch.arange(len(split))).x
    loader = DataLoader(_Files(images), batch_size=BATCH, shuffle=True, num_workers=0, drop_last=True)
    steps, epochs = len(images) // BATCH, count()

    def theirs() -> None:
        for _ in loader:
            pass

    def ours() -> None:
        seed, device = next(epochs), torch.device("cpu")
        batches = train_batches(split, BATCH, seed, start=0, rank=0, world=1, device=device, workers=0)
        for _ in range(steps):
            next(batches).x.float().div_(255)

    times = race({"DataLoader, no workers": theirs, "gencli": ours}, ROUNDS + 1)
    report.table(f"an epoch of {steps} batches of {BATCH}", times)


if __name__ == "__main__":
    with benchmark("inputs") as report:
        main(report)
