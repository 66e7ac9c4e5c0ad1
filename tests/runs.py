"""What tests of training share: the tensors of a run, and a way to meddle with one of its steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gencli.core import processes
from gencli.run import checkpoint, device
from gencli.training.loop import Trainer

ROOT = Path(__file__).resolve().parents[1]


def tensors(run):
    """Those of a run's last checkpoint."""
    return checkpoint.read(Path(run) / "checkpoints" / "last.safetensors")[0]


def same(a, b):
    """Names of the tensors that differ."""
    assert set(a) == set(b)
    return [name for name in a if not torch.equal(a[name], b[name])]


def before_step(monkeypatch, step: int, act: Callable[[Trainer], object]) -> None:
    """Have trainers act once they have taken ``step`` steps, before the next one."""
    own = Trainer._step

    def one(trainer):
        if trainer.state.step == step:
            act(trainer)
        own(trainer)

    monkeypatch.setattr(Trainer, "_step", one)


@contextmanager
def cores(monkeypatch, count: int) -> Iterator[None]:
    """A machine with so many cores, of which nobody has said how many are to be used."""
    for name in ("OMP_NUM_THREADS", processes.SHARED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: count)
    monkeypatch.setattr(device, "_quota", lambda: count)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
