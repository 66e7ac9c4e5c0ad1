"""How processes share weights: what each keeps, what is refused, and when it is chosen.

That two processes which have parts train as one alone is asked in ``test_loop``.
"""

import importlib
import os
from types import SimpleNamespace

import forks
import pytest
import torch

import gencli
from gencli.config.compose import compose
from gencli.config.sections import TrainerOptions
from gencli.core.distributed import World
from gencli.core.errors import UsageError
from gencli.objectives.distillation.progressive import Progressive
from gencli.objectives.likelihood import NLL
from gencli.training.session import Session
from gencli.training.strategy import settled
from tests.conftest import TINY

WORDS = [*TINY, "model.net.vector.hidden=[15]", "trainer.strategy=fsdp", "trainer.sample_every=5", "n=4", "run_dir=two"]


def kept(words):
    """Of one process after a few steps: sizes of its weights, moments and average, and of whole weights."""
    with Session.open(compose("train", words)) as session:
        trainer = session.trainer
        trainer.prepare()
        whole = sum(p.numel() for p in session.parts.model.parameters())
        trainer.steps(3)
        state = trainer.state
        own = sum(p.numel() for p in state.strategy.own(session.parts.model.parameters()))
        moments = [entries["exp_avg"].numel() for entries in state.optimizers[0].state.values()]
        with state.measured() as model:
            there = sum(p.numel() for p in model.parameters())
            log_prob = model.log_prob(torch.zeros(1, 2))
        return own, sum(moments), sum(t.numel() for t in state.ema), whole, there, float(log_prob)


def torchrun(work, port):
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    where = {"rdzv_endpoint": f"127.0.0.1:{port}", "rdzv_configs": {"rank": 0}, "run_id": "parts"}
    config = LaunchConfig(1, 1, nproc_per_node=2, start_method="fork", rdzv_backend="static", max_restarts=0, **where)
    found = elastic_launch(config, work)(WORDS)
    with open("found", "w") as file:
        file.write(repr([found[rank] for rank in range(2)]))
    return 0


@pytest.mark.slow
def test_each_process_keeps_a_part(tmp_path):
    """Of every tensor: about half each, all together; and both measure with the whole."""
    forks.warm_up(*WORDS)
    forks.warm(importlib.import_module, "torch.distributed.launcher.api")
    process = forks.Child(torchrun, kept, 29437, log="log", folder=tmp_path)
    assert process.wait() == 0, (tmp_path / "log").read_text()
    one, two = eval((tmp_path / "found").read_text())
    count = one[3]
    for mine, theirs in zip(one[:3], two[:3], strict=True):  # what is kept, moments, average
        assert mine + theirs == count
        assert 0.4 * count < mine < 0.6 * count
    assert one[4] == two[4] == count
    assert one[5] == two[5]


def parts(objective=NLL, device="cpu", count=1000):
    bare = object.__new__(objective)
    torch.nn.Module.__init__(bare)
    model = torch.nn.Linear(count, 1, bias=False, device="meta")
    return SimpleNamespace(objective=bare, model=model, device=torch.device(device))


def options(**keys):
    return TrainerOptions(max_steps=1, **keys)


@pytest.mark.parametrize(
    ("keys", "objective", "size", "said"),
    [
        ({}, NLL, 1, "torchrun --nproc-per-node=2"),
        ({"precision": "fp16"}, NLL, 2, "trainer.precision=fp16"),
        ({"compile": True}, NLL, 2, "trainer.compile=true"),
        ({}, Progressive, 2, "Progressive, which needs whole weights"),
    ],
)
def test_what_cannot_be_shared_is_refused(keys, objective, size, said):
    with pytest.raises(UsageError, match=said):
        settled(options(strategy="fsdp", **keys), parts(objective), World(size=size))


def test_nothing_is_written_where_there_is_nobody_to_share_with():
    with pytest.raises(UsageError, match="this is one"):
        gencli.train([*TINY, "trainer.strategy=fsdp", "run_dir=alone"])
    assert not os.path.exists("alone")


@pytest.mark.parametrize(
    ("device", "size", "count", "keys", "found"),
    [
        ("cuda", 2, 10**9, {}, "ddp"),  # 24 GB of 80
        ("cuda", 2, 2 * 10**9, {}, "fsdp"),
        ("cuda", 1, 2 * 10**9, {}, "ddp"),
        ("cpu", 2, 2 * 10**9, {}, "ddp"),
        ("cuda", 2, 2 * 10**9, {"precision": "fp16"}, "ddp"),
        ("cuda", 2, 2 * 10**9, {"strategy": "ddp"}, "ddp"),
    ],
)
def test_shards_are_chosen_where_the_state_of_training_would_fill_a_gpu(monkeypatch, device, size, count, keys, found):
    of_a_gpu = SimpleNamespace(total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: of_a_gpu)
    assert settled(options(**keys), parts(device=device, count=count), World(size=size)) == found
