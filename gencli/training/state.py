"""The state of training: all that a checkpoint holds, and all that a resumed run goes on from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gencli.config import stored
from gencli.core import distributed
from gencli.core.errors import RunFailed, quoted
from gencli.core.files import inside
from gencli.core.tensors import frozen
from gencli.data.preprocess import Preprocess
from gencli.models.base import Model
from gencli.objectives.base import Objective, Turn
from gencli.run import checkpoint as checkpoints
from gencli.training.clock import Clock
from gencli.training.strategy import Replicas
from gencli.training.writer import Writer


class State:
    """Parameters theta and their average, the objective's own state, optimizers, the position in the data, the best.

    Args:
        model: what is trained.
        objective: with critics, chains, buffers.
        preprocess: with the statistics of the training split.
        clock: the seconds spent.
        folder: the run folder.
        writes: whether this rank writes checkpoints.
        aside: whether it does so while training goes on.

    Attributes:
        step: steps taken; the batch of a step is a function of its number.
        ema: the average of each parameter of the model, or None.
        best: (score, step) of the best validation.
        stale: validations since then.
        loaded: whether it goes on from a checkpoint, which stands for all that came before it.
        strategy: how processes share all this.
        due: the validation of this step has not taken place: a signal came first.
        validated: examples that validation looks at, where time decides it; None: it has not been decided.
        logs: sums of what losses logged since the last line of metrics.
        logged: step and seconds of that line.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective[Any],
        preprocess: Preprocess,
        clock: Clock,
        folder: Path,
        *,
        writes: bool,
        aside: bool,
    ) -> None:
        self.model, self.objective, self.preprocess = model, objective, preprocess
        self.clock, self.folder, self.writes = clock, folder, writes
        self.writer = Writer(aside)
        self.step = 0
        self.ema: list[Tensor] | None = None
        self.best: tuple[float, int] | None = None
        self.stale = 0
        self.loaded = self.due = False
        self.validated: int | None = None
        self.logs: dict[str, Tensor] = {}
        self.logged = (0, 0.0)
        self.turns: list[Turn] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.strategy = Replicas()
        self._followed: list[Tensor] = []  # parameters of the model: walking modules at each step is slow

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """All that some turn moves."""
        return [p for turn in self.turns for p in turn.parameters]

    # --- the average ---------------------------------------------------------------------------------------------

    def begin_average(self) -> None:
        """Start the EMA at the weights as they are."""
        self._followed = [p.detach() for p in self.strategy.own(self.model.parameters())]
        self.ema = [p.clone() for p in self._followed]

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """EMA of the parameters: theta' <- d theta' + (1 - d) theta, with d growing from 0.1 to ``decay``.

        torch's AveragedModel does the same but reads its counter on the host at every step.
        """
        if self.ema is not None:
            torch._foreach_lerp_(self.ema, self._followed, 1 - min(decay, self.step / (self.step + 9)))

    @contextmanager
    def measured(self) -> Iterator[Model]:
        """The model as it is validated and drawn from: with the EMA for weights if there is one, and not trained."""
        self._swap()
        try:
            with self.strategy.whole(), frozen(self.model):
                yield self.model
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """The average in the place of the weights, and the other way round: no third copy stays."""
        for mine, theirs in zip(self.ema or (), self._followed, strict=True):
            other = mine.clone()
            mine.copy_(theirs)
            theirs.copy_(other)

    def _averages(self) -> Iterator[tuple[str, torch.nn.Parameter, Tensor]]:
        """Name, parameter and average; those of shared weights under each of their names."""
        place = {id(p): i for i, p in enumerate(self.model.parameters())}
        for name, p in self.model.named_parameters(remove_duplicate=False):
            assert self.ema is not None
            yield name, self.strategy.own([p])[0], self.ema[place[id(p)]]

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, name: Literal["best", "last"]) -> None:
        """Write the checkpoint ``name``: all ranks ask for it, and the one that writes does.

        ``best`` is what is measured and drawn from: it has no state of optimizers, half of what ``last`` goes on from.
        """
        modules = {"model": self.model, "objective": self.objective, "preprocess": self.preprocess}
        tensors = {f"{part}/{n}": t for part, module in modules.items() for n, t in module.state_dict().items()}
        tensors = self.strategy.gathered(tensors)
        if self.ema is not None:
            average = {f"ema/{n}": tensors[f"model/{n}"] for n in self.model.state_dict()}
            for n, own, mine in self._averages():
                average |= self.strategy.gathered({f"ema/{n}": mine}, own)
            tensors |= average
        meta: dict[str, Any] = {"step": self.step, "seconds": self.clock.seconds, "run": stored.identity(self.folder)}
        meta |= {"best": self.best, "stale": self.stale}
        if name == "last":
            more, scalars = self._to_go_on()
            tensors, meta = tensors | more, meta | scalars
        if not self.writes:
            return
        path = inside(self.folder, "checkpoints", f"{name}.safetensors")
        self.writer.write(path, tensors, meta, keep_previous=name == "last")

    def _to_go_on(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What training alone needs: optimizers, logs, the scaler."""
        tensors = {f"logs/{name}": value for name, value in self.logs.items()}
        scalars: dict[str, Any] = {}
        for turn, optimizer in zip(self.turns, self.optimizers, strict=True):
            state = optimizer.state_dict()
            state["state"] = {
                index: entries | self.strategy.gathered(_moments(entries), own)
                for (index, entries), own in zip(state["state"].items(), _moved(optimizer, state), strict=True)
            }
            some, scalars[turn.name] = checkpoints.pack(f"optimizer.{turn.name}", state)
            tensors |= some
        return tensors, {
            "logged": self.logged,
            "due": self.due,
            "validated": self.validated,
            "optimizers": scalars,
            "scaler": self.scaler.state_dict(),
        }

    def load(self, path: Path) -> str | None:
        """Go on from a checkpoint.

        Returns:
            What is wrong with ``best``, which is forgotten then; None: nothing is.

        Raises:
            RunFailed: it is damaged, or of another model or objective.
        """
        tensors, meta = checkpoints.read(path)
        try:
            self._swap()
            self.strategy.load(self.model, checkpoints.under("ema", tensors) or checkpoints.under("model", tensors))
            self._swap()
            self.strategy.load(self.model, checkpoints.under("model", tensors))
            self.strategy.load(self.objective, checkpoints.under("objective", tensors))
            self.preprocess.load_state_dict(checkpoints.under("preprocess", tensors))
            for turn, optimizer in zip(self.turns, self.optimizers, strict=True):
                state = checkpoints.unpack(f"optimizer.{turn.name}", tensors, meta["optimizers"][turn.name])
                for entries, own in zip(state["state"].values(), _moved(optimizer, state), strict=True):
                    entries |= self.strategy.parts(_moments(entries), own)
                _load_optimizer(optimizer, state, turn.name)
            if meta["scaler"]:
                self.scaler.load_state_dict(meta["scaler"])
            self.step, self.clock.seconds, self.stale = meta["step"], meta["seconds"], meta["stale"]
            self.best = tuple(meta["best"]) if meta["best"] else None
            self.due, self.validated = meta.get("due", False), meta.get("validated") or None
            self.logs = checkpoints.under("logs", tensors)
            self.logged = tuple(meta.get("logged") or (self.step, self.clock.seconds))
            if self.logged[0] > self.step or any(value.numel() != 1 for value in self.logs.values()):
                raise ValueError("its means since the last line of metrics are none")
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
            reason = quoted(str(error).splitlines()[-1].strip() if str(error) else type(error).__name__, 200)
            raise RunFailed(f"{path} does not fit the run's config: {reason}") from error
        self.loaded = True
        return self.drop_other_best()

    def drop_other_best(self) -> str | None:
        """Forget a ``best`` that is gone, damaged, or unknown to this state: from steps that are taken anew."""
        path = self.folder / "checkpoints" / "best.safetensors"
        other, damage = False, None
        if self.writes and path.exists():
            inside(self.folder, "checkpoints", "best.safetensors")
            try:
                other = self.best is None or checkpoints.read(path)[1].get("step") != self.best[1]
            except RunFailed as error:
                other, damage = True, f"{error} The next validation chooses the best anew."
            if other:
                path.unlink()
        elif self.writes and self.best is not None:
            other, damage = True, f"{path} is gone. The next validation chooses the best anew."
        if distributed.share(other):  # one rank looks, all follow
            self.best, self.stale = None, 0
        return damage


def _moved(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> list[torch.nn.Parameter]:
    """The parameters of the entries of its ``state_dict``, in their order."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return [parameters[index] for index in state["state"]]


def _moments(entries: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in entries.items() if isinstance(value, Tensor)}


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], turn: str) -> None:
    """Moments from the checkpoint; weight decay and betas from the config."""
    options = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for parameter, moments in optimizer.state.items():
        if any(isinstance(m, Tensor) and m.dim() and m.shape != parameter.shape for m in moments.values()):
            raise ValueError(f"moments of {turn} are of another shape than its parameters")
    for group, option in zip(optimizer.param_groups, options, strict=True):
        group.update(option)
