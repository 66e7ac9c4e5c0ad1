"""What the benchmarks share: interleaved rounds on one thread, and a trainer without its run folder."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from gencli.config.compose import compose
from gencli.training.loop import Trainer
from gencli.training.session import Session


def race(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each, over interleaved rounds; of several the first warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds):
        for name, work in works.items():
            began = time.process_time()
            work()
            if turn or rounds == 1:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def table(title: str, seconds: dict[str, float], count: int = 0, unit: str = "steps/s") -> None:
    """Print each and how many times as fast gencli is: ``count`` of something a second, or seconds for count=0."""
    print(title)
    for name, value in seconds.items():
        shown = f"{count / value:8.2f} {unit:8}" if count else f"{value:8.3f} s"
        print(f"  {name:28} {shown}  gencli is {value / seconds['gencli']:.2f} times as fast")


def stepper(
    model: nn.Module, loss_of: Callable[[Tensor], Tensor], x: Tensor, steps: int, batch: int
) -> Callable[[], None]:
    """Plain training steps as a tutorial has them: shuffle, loss, backward, Adam."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def work() -> None:
        order = torch.randperm(len(x))
        for i in range(steps):
            rows = x[order[i * batch : (i + 1) * batch]].float()
            optimizer.zero_grad()
            loss_of(rows).backward()
            optimizer.step()

    return work


@contextmanager
def training(overrides: list[str]) -> Iterator[Trainer]:
    """The trainer of ``gencli train OVERRIDES``, whose ``steps`` are raced; its folder is thrown away."""
    with TemporaryDirectory() as folder:
        quiet = ["trainer.max_steps=1000000", "logger=none", "device=cpu", f"run_dir={folder}/run"]
        with Session.open(compose("train", [*overrides, *quiet])) as session:
            session.trainer.prepare()
            yield session.trainer
