"""Optimizers with one kernel move as torch's loops do; clipping is torch's clipping."""

import copy

import pytest
import torch
from torch import nn

from gencli.config.sections import AdamOptions, MomentumOptions
from gencli.core.errors import RunFailed
from gencli.objectives.base import Turn
from gencli.training.optim import CLASSES, LEAN, clip, gradient_norm, make_optimizer, set_rate
from tests.conftest import TINY
from tests.runs import before_step

CPU = torch.device("cpu")


def twins(dtype=torch.float32):
    """Two equal networks, with a parameter of another type if ``dtype`` is one."""
    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
        net.extra = nn.Parameter(torch.ones(3, dtype=dtype))
        nets.append(net)
    return nets


def turn(parameters, **slower):
    return Turn("model", list(parameters), lambda batch, noise: None, **slower)


def backward(net, x, scale):
    net.zero_grad()
    (scale * (net(x).square().mean() + net.extra.square().sum())).backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["adamw", "adam", "adamax", "sgd"])
def test_steps_and_clipping_are_those_of_torch(name, dtype):
    """Some gradients are above the norm, some below, and a parameter has none in between."""
    ours, theirs = twins(dtype)
    kind = MomentumOptions if name == "sgd" else AdamOptions
    optimizer = make_optimizer(turn(ours.parameters()), [ours], kind(name, 0.01, weight_decay=0.1), CPU)
    groups = [{"params": [theirs[0].weight, theirs[2].weight], "weight_decay": 0.1}]
    groups += [{"params": [theirs.extra, theirs[0].bias, theirs[2].bias], "weight_decay": 0.0}]
    reference = CLASSES[name](groups, lr=0.01)  # torch's own step, not fused
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
    for step, scale in enumerate((10.0, 1e-3, 3.0, 1e-4)):
        for net in (ours, theirs):
            backward(net, x, scale)
            if step == 2:
                net.extra.grad = None
        norm = gradient_norm(ours.parameters())
        clip(optimizer, ours.parameters(), norm, 1.0)
        torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs.parameters(), 1.0).to(norm))
        optimizer.step()
        reference.step()
        for own, there in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(own, there)
            if own.grad is not None:
                torch.testing.assert_close(own.grad, there.grad)
                for key, value in reference.state[there].items():
                    torch.testing.assert_close(optimizer.state[own][key], value, check_dtype=False)


@pytest.mark.parametrize("name", LEAN)
def test_a_lean_step_is_that_of_torch_to_the_bit(name):
    """Also after the state was replaced, and around a step in which a parameter has no gradient."""
    ours, theirs = twins()
    pairs = [(net, CPU) for net in (ours, theirs)]
    lean, plain = (
        make_optimizer(turn(net.parameters()), [net], AdamOptions(name, 0.01, 0.1), cpu) for net, cpu in pairs
    )
    plain.__class__ = CLASSES[name]
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
    for step in range(8):
        for net in (ours, theirs):
            backward(net, x, 1.0 + step)
            if step == 2:
                net.extra.grad = None
        for optimizer in (lean, plain):
            set_rate(optimizer, 0.01 / (1 + step))
            optimizer.step()
            if step == 4:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert all(torch.equal(own, there) for own, there in zip(ours.parameters(), theirs.parameters(), strict=True))
    for own, there in zip(lean.state.values(), plain.state.values(), strict=True):
        assert all(torch.equal(own[key], there[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
    assert lean._state is not None


@pytest.mark.parametrize("frozen", [False, True])  # a rate that a CUDA graph reads is a tensor
def test_some_parameters_of_a_turn_learn_more_slowly(frozen):
    """Adam's first step has the size of the rate in every coordinate, whatever the gradient."""
    net, _ = twins()
    optimizer = make_optimizer(
        turn(net.parameters(), slower=list(net[2].parameters()), slower_by=0.1), [net], AdamOptions("adam", 0.01), CPU
    )
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(net.parameters()))
    if frozen:
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(1.0)
    set_rate(optimizer, 0.02)
    before = [p.detach().clone() for p in net.parameters()]
    backward(net, torch.randn(16, 5, generator=torch.Generator().manual_seed(1)), 10.0)
    optimizer.step()
    moved = [float((p.detach() - was).abs().max()) for p, was in zip(net.parameters(), before, strict=True)]
    assert moved == pytest.approx([0.02, 0.02, 0.02, 0.002, 0.002], rel=1e-4)


def test_a_step_that_is_refused_on_the_device_moves_and_counts_nothing():
    net, _ = twins()
    optimizer = make_optimizer(turn(net.parameters()), [net], AdamOptions("adamw", 0.01), CPU)
    for refused in (0.0, 1.0):
        backward(net, torch.ones(4, 5), 1.0 if not refused else torch.nan)
        before = [p.detach().clone() for p in net.parameters()]
        optimizer.found_inf = torch.tensor(refused)
        optimizer.step()
        stood = [torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
        assert stood == [bool(refused)] * len(stood)
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_the_guard_refuses_the_very_step(monkeypatch, what):
    import gencli

    def spoil(trainer):
        turn = trainer.state.turns[0]
        own = turn.loss

        def loss(batch, noise):
            found = own(batch, noise)
            if what == "loss":
                found.value = found.value * torch.nan
            else:  # d sqrt(0) is infinite, and 0 * inf is no number, where the loss itself is fine
                found.value = found.value + (turn.parameters[0] * 0.0).abs().sum().sqrt()
            return found

        turn.loss = loss

    before_step(monkeypatch, 3, spoil)
    with pytest.raises(RunFailed, match=r"not finite at step 3\b"):
        gencli.train([*TINY, "run_dir=run"])
