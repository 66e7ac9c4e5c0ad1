"""torch.optim by name, and the learning rate's way from warm-up to the end of the budget."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gencli.config.sections import AdamOptions, MomentumOptions, OptimizerOptions
from gencli.objectives.base import Turn


def eager(optimizer: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """A class of torch.optim whose methods are not prepared for being compiled themselves.

    Torch's wrappers import torch._dynamo at the first step, which takes longer than importing torch. gencli compiles
    models, never a step of the optimizer.
    """
    wrapped = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    plain = {name: inspect.unwrap(getattr(optimizer, name)) for name in wrapped}
    return type(optimizer.__name__, (optimizer,), plain | {"step": torch.no_grad()(inspect.unwrap(optimizer.step))})


class Divides:
    """An optimizer whose step divides gradients by ``grad_scale``, if there is one."""

    grad_scale: Tensor | None = None


def lean(optimizer: type[torch.optim.Optimizer], kernel: Callable[..., None]) -> type[torch.optim.Optimizer]:
    """Adam or AdamW, whose steps on a CPU are the kernel and nothing else, to the bit.

    What torch does around it in Python, and again for each group, takes as long as the kernel on a small network. The
    first step is torch's, which makes the state; so are those of parameters of several types, and any in which one has
    no gradient. ``grad_scale``, if there is one, is what the kernel divides gradients by.
    """

    class Lean(optimizer, Divides):  # type: ignore[misc, valid-type]
        _state: list[list[list[Tensor]]] | None = None  # of each group: means, squares, numbers of the step
        _steps: list[Tensor]  # those numbers, each once: parameters that moved as often share theirs

        @torch.no_grad()
        def step(self, closure: None = None) -> None:
            gradients = [[p.grad for p in group["params"]] for group in self.param_groups]
            usual = all(g is not None for some in gradients for g in some) and getattr(self, "found_inf", None) is None
            if self._state is None or not usual:
                for entries in self.state.values():
                    entries["step"] = entries["step"].clone()
                super().step()
                kinds = {(p.dtype, p.device) for group in self.param_groups for p in group["params"]}
                self._state = self._found() if usual and len(kinds) == 1 else None
                return
            torch._foreach_add_(self._steps, 1)
            for group, some, (means, squares, steps) in zip(self.param_groups, gradients, self._state, strict=True):
                beta1, beta2 = group["betas"]
                kernel(
                    *(group["params"], some, means, squares, [], steps),
                    lr=group["lr"],
                    beta1=beta1,
                    beta2=beta2,
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    amsgrad=False,
                    maximize=False,
                    grad_scale=self.grad_scale,
                )

        step.hooked = True  # type: ignore[attr-defined]  # else torch wraps it in a profiler's mark

        def _found(self) -> list[list[list[Tensor]]]:
            shared: dict[float, Tensor] = {}
            for entries in self.state.values():
                entries["step"] = shared.setdefault(float(entries["step"]), entries["step"])
            self._steps = list(shared.values())
            keys = ("exp_avg", "exp_avg_sq", "step")
            return [[[self.state[p][key] for p in group["params"]] for key in keys] for group in self.param_groups]

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            self._state = None

    Lean.__name__ = optimizer.__name__
    return Lean


CLASSES = {
    "adamw": eager(torch.optim.AdamW),
    "adam": eager(torch.optim.Adam),
    "adamax": eager(torch.optim.Adamax),
    "sgd": eager(torch.optim.SGD),
    "rmsprop": eager(torch.optim.RMSprop),
}

FUSED = ("adamw", "adam", "sgd")
"""Those with one kernel for all parameters, 1.3 times the speed of a step on small models."""

LEAN = {"adamw": lean(CLASSES["adamw"], torch._fused_adamw_), "adam": lean(CLASSES["adam"], torch._fused_adam_)}
"""Of a CPU."""

CAPTURABLE = ("adamw", "adam")
"""Those whose step can be part of a CUDA graph: their learning rate is a tensor on the device."""


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The 2-norm of all gradients together, a scalar on their device; 0 where there are none."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) if gradients else torch.zeros(())


def clip(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], norm: Tensor, most: float) -> None:
    """Let the optimizer's next step be one with gradients times min(1, most / (norm + 1e-6)).

    It is what ``torch.nn.utils.clip_grad_norm_`` does. An optimizer that divides gradients itself is told by what; else
    they are multiplied here.

    Args:
        optimizer: that is to move.
        parameters: whose gradients.
        norm: of the gradients; where it lies on the CPU, nothing is multiplied that need not be.
        most: the norm that they may have.
    """
    if norm.device.type != "cpu":
        factor: Tensor | float = (most / (norm + 1e-6)).clamp(max=1.0)
    else:  # a number: of a tensor each gradient would make one
        factor = min(1.0, most / (float(norm) + 1e-6))
        if isinstance(optimizer, Divides):
            optimizer.grad_scale = None if factor == 1 else torch.tensor(1 / factor)
            return
        if factor == 1:
            return
    torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], factor)


def make_optimizer(
    turn: Turn,
    modules: Iterable[nn.Module],
    options: OptimizerOptions,
    device: torch.device,
    own: Callable[[Iterable[nn.Parameter]], list[nn.Parameter]] = list,
) -> torch.optim.Optimizer:
    """The optimizer of a turn's parameters that the group ``optimizer`` describes.

    Only weights of linear and convolutional layers within ``modules`` decay: zero means nothing for a mean, a scale, a
    spline or a bias. It moves what this process keeps of them (``own``).
    """
    layers = (nn.Linear, nn.modules.conv._ConvNd)
    every = [layer for m in modules for layer in m.modules() if isinstance(layer, layers)]
    # as they are kept: where a weight is normalised, to ask for it would compute it
    weights = {id(p) for layer in every for name, p in layer.named_parameters(recurse=False) if name == "weight"}
    slower = {id(p) for p in turn.slower}
    groups = [
        {
            "params": own([p for p in turn.parameters if (id(p) in slower, id(p) in weights) == (slow, decays)]),
            "weight_decay": options.weight_decay if decays else 0.0,
            "factor": turn.slower_by if slow else 1.0,
        }
        for slow in (False, True)
        for decays in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    arguments: dict[str, Any] = {"lr": options.lr}
    if isinstance(options, MomentumOptions):
        arguments["momentum"] = options.momentum
    if isinstance(options, AdamOptions):
        arguments["betas"] = tuple(options.betas)
    if options.name in FUSED and device.type in ("cpu", "cuda"):
        arguments["fused"] = True
    if options.name in CAPTURABLE and device.type == "cuda":
        arguments["capturable"] = True
        for group in groups:
            group["lr"] = torch.tensor(options.lr, device=device)  # its own, which ``set_rate`` fills
    classes = CLASSES | LEAN if device.type == "cpu" else CLASSES
    return classes[options.name](groups, **arguments)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate, times each group's factor, in place where it is a tensor that a CUDA graph reads."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["factor"])
        else:
            group["lr"] = rate * group["factor"]


def schedule(options: OptimizerOptions, step: int, fraction: float) -> float:
    """The factor of ``optimizer.lr`` at a step.

    A linear warm-up over ``warmup_steps``, times 1 (constant) or f + (1 - f)(1 + cos(pi t))/2 (cosine) with t the
    fraction of the budget that is used and f = ``final_lr_fraction``.
    """
    warmup = min(1.0, (step + 1) / options.warmup_steps) if options.warmup_steps else 1.0
    if options.schedule == "constant":
        return warmup
    final = options.final_lr_fraction
    return warmup * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * fraction)))
