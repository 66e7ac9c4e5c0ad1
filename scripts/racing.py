"""What the benchmarks share: interleaved rounds on one thread, and a trainer without its run folder."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from gencli.config.compose import compose
from gencli.core import distributed
from gencli.run.assembly import assemble
from gencli.run.folder import RunFolder
from gencli.run.reporter import Reporter
from gencli.training.loop import Trainer
from gencli.training.signals import StopRequest


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
def training(overrides: list[str]) -> Iterator[tuple[Trainer, Callable[[int], None]]]:
    """The trainer of ``gencli train OVERRIDES``, and a function that takes so many steps of its loop."""
    cfg = compose("train", [*overrides, "trainer.max_steps=1000000", "logger=none", "device=cpu"])
    parts = assemble(cfg)
    whole, split = parts.dataset.split("train"), parts.dataset.training()
    assert whole is not None
    assert split is not None
    parts.preprocess.fit(whole)
    with TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run", writes=False)
        trainer = Trainer(cfg, parts, split, None, run, Reporter(quiet=True), distributed.World(), StopRequest(), print)
        trainer.prepare()
        parts.model.train()
        batches = trainer._batches(0)

        def steps(count: int) -> None:
            logs: dict[str, Tensor] = {}
            for _ in range(count):
                trainer._set_rates()
                for name, value in trainer._advance(batches).items():
                    logs[name] = logs[name] + value if name in logs else value
                trainer.step += 1
                trainer._average()

        yield trainer, steps
