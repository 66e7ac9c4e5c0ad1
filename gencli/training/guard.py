"""No step is taken with a loss or a gradient that is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gencli.core import distributed
from gencli.core.errors import RunFailed
from gencli.core.files import inside, write_json
from gencli.core.spec import Batch
from gencli.run import checkpoint as checkpoints
from gencli.training.state import State


class Guard:
    """Refuses a step whose loss or gradient is not finite, and keeps the evidence.

    Loss scaling (fp16) expects infinite gradients now and then and skips those steps itself. On CUDA a fused optimizer
    skips on the device (``found_inf``) and the host learns of it at the next log step, so that the two never wait for
    each other; elsewhere the host looks at once.

    Args:
        state: whose steps are watched.
        seed: the run's, for the evidence.
        device: where losses are.
        batches_of: the batches of a step, anew.
    """

    def __init__(
        self, state: State, seed: int, device: torch.device, batches_of: Callable[[int], Sequence[Batch]]
    ) -> None:
        self.state, self.seed, self.device, self.batches_of = state, seed, device, batches_of
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self.step = torch.zeros_like(self.bad_step)

    def now(self, step: int) -> None:
        """Say which step it is; where the host does not look at losses, the device has to know."""
        if self.device.type == "cuda":
            self.step.fill_(step)

    def watch(self, optimizer: torch.optim.Optimizer, loss: Tensor, norm: Tensor) -> None:
        """Look at a loss and at the norm of its gradient; before the optimizer moves.

        Raises:
            RunFailed: one is not finite, and the host looks at once.
        """
        scaled = self.state.scaler.is_enabled()
        if scaled or (self.device.type == "cuda" and optimizer.defaults.get("fused")):
            bad = ~torch.isfinite(loss if scaled else loss + norm)
            # in place: a CUDA graph reads and writes where it was captured
            self.bad_step.copy_(torch.where((self.bad_step < 0) & bad, self.step, self.bad_step))
            if not scaled:
                optimizer.grad_scale = None  # type: ignore[attr-defined]
                optimizer.found_inf = (self.bad_step >= 0).float()  # type: ignore[attr-defined]
        elif not math.isfinite(float(loss) + float(norm)):
            self.bad_step.fill_(self.state.step)
            self.check()

    def check(self) -> None:
        """Read on the host whether a step was refused.

        Raises:
            RunFailed: one was; the optimizer was not moved with it.
        """
        step = int(self.bad_step)
        if step < 0:
            return
        state = self.state
        statistics, moved = self._statistics(), state.strategy.own(state.parameters)
        norm = math.hypot(*(float(state.strategy.gathered({"": p.detach()}, p)[""].norm()) for p in moved))
        norm = distributed.share(norm)  # of whole weights, which one rank has seen
        if state.writes:
            self._keep_evidence(step, statistics)
        rate = float(state.optimizers[0].param_groups[0]["lr"])
        raise RunFailed(
            f"the loss or its gradient was not finite at step {step}, with a learning rate of {rate:.3g} and "
            f"parameters of norm {norm:.3g}; the optimizer was not moved, checkpoints are as they were. nonfinite.json "
            f"and nonfinite.safetensors in {state.folder} hold statistics and the batch. "
            f"{state.objective.advice()}"
        )

    def _statistics(self) -> dict[str, dict[str, dict[str, float] | None]]:
        """Of every parameter and gradient, on the rank that writes; all ranks have to ask.

        On CUDA, where the host learns of it later, gradients are those of the step at which it looks.
        """
        state, found = self.state, {}
        for name, p in [*state.model.named_parameters(), *state.objective.named_parameters()]:
            (own,) = state.strategy.own([p])
            some = {"value": own.detach()} | ({} if own.grad is None else {"gradient": own.grad})
            whole = state.strategy.gathered(some, own)
            found[name] = {key: _statistics(whole.get(key)) for key in ("value", "gradient")} if state.writes else {}
        return found

    def _keep_evidence(self, step: int, parameters: Mapping[str, Any]) -> None:
        """Statistics of every parameter, and all examples of the step in data space."""
        facts = {"step": step, "seed": self.seed}
        folder = self.state.folder
        write_json(inside(folder, "nonfinite.json"), {**facts, "parameters": parameters})
        rows = self.batches_of(step)
        evidence = {"x": torch.cat([batch.x for batch in rows])}
        if rows[0].y is not None:
            evidence["y"] = torch.cat([batch.y for batch in rows if batch.y is not None])
        checkpoints.write(inside(folder, "nonfinite.safetensors"), evidence, facts)


def _statistics(t: Tensor | None) -> dict[str, float] | None:
    if t is None:
        return None
    t = t.detach().float()
    return {"mean": float(t.mean()), "abs_max": float(t.abs().max()), "nonfinite": float((~torch.isfinite(t)).sum())}
