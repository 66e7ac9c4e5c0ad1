"""The training loop, once, for every family: an objective's turns, EMA, schedule, validation, checkpoints."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gencli.core import distributed
from gencli.core.errors import Interrupted, RunFailed, UsageError, quoted
from gencli.core.files import inside, write_json
from gencli.core.noise import RowNoise, StepNoise, mix_seed, seed_global
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.data.loading import train_batches
from gencli.data.split import at_most
from gencli.models.base import DataInitialized, Model
from gencli.objectives.base import Turn
from gencli.run import checkpoint as checkpoints
from gencli.run.assembly import Parts
from gencli.run.folder import RunFolder
from gencli.run.record import bits_per_dim
from gencli.run.reporter import Reporter
from gencli.run.scoring import score_split
from gencli.training.optim import make_optimizer, schedule
from gencli.training.signals import StopRequest

SYNC_EVERY = 10
"""Steps between two agreements of the ranks about the clock and about stopping."""

COMPILED = ("log_prob", "energy", "forward")
"""Methods of a model that a loss may call, and that torch.compile can take whole."""

_VALIDATION, _TRAINING = 1, 2  # streams of noise; evaluate.py has another


class Trainer:
    """Trains the parts of one run.

    Args:
        cfg: the whole config; reads ``trainer``, ``optimizer`` and ``seed``.
        parts: what to train, on its device.
        train: training examples.
        val: validation examples, or None.
        folder: the run folder.
        reporter: says what happens.
        world: this process among its peers.
        stop: asked at every step.
        on_sample: called with (step, model) every ``trainer.sample_every`` steps.

    Raises:
        UsageError: the batch does not divide, or the device lacks the precision.
    """

    def __init__(
        self,
        cfg: Mapping[str, Any],
        parts: Parts,
        train: Split,
        val: Split | None,
        folder: RunFolder,
        reporter: Reporter,
        world: distributed.World,
        stop: StopRequest,
        on_sample: Callable[[int, Model], None],
    ) -> None:
        self.trainer: Mapping[str, Any] = cfg["trainer"]
        self.optimizer_config: Mapping[str, Any] = cfg["optimizer"]
        self.seed: int = cfg["seed"]
        self.parts, self.train = parts, train
        self.val = None if val is None else at_most(val, self.trainer.get("eval_examples")).to(parts.device)
        self.folder, self.reporter, self.world, self.stop = folder, reporter, world, stop
        self.on_sample = on_sample
        self.model, self.device = parts.model, parts.device
        self.precision = check(cfg, parts.device, world)
        # What is measured per symbol is trained on nats per symbol: one clip_norm for any window.
        self.symbols = parts.dataset.spec.dim if parts.dataset.per else 1

        self.step = 0
        self.seconds = 0.0
        self.best: tuple[float, int] | None = None  # (score, step)
        self.stale = 0  # validations since the best
        self.ema: Model | None = None
        self.averaged: tuple[list[Tensor], ...] = ()  # parameters of the EMA and of the model: walking modules is slow
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)

    # --- state ---------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Data-dependent starts, then optimizers and EMA; before ``load`` or ``fit``."""
        if isinstance(self.model, DataInitialized):
            try:
                self.model.initialize_from(self._first_examples(self.model.initial_examples))
            except ValueError as error:
                raise RunFailed(str(error)) from error
        wanted = self.parts.objective.initial_examples
        self.parts.objective.start(self.model, self._first_examples(wanted) if wanted else None)
        distributed.broadcast_state(self.model, self.parts.objective)
        if self.trainer["ema_decay"]:
            self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
            self.averaged = tuple([p.detach() for p in m.parameters()] for m in (self.ema, self.model))
        self.turns = [turn for turn in self.parts.objective.turns(self._to_train()) if turn.parameters]
        modules = (self.model, self.parts.objective)
        self.optimizers = [
            make_optimizer(turn.parameters, modules, self.optimizer_config, self.device) for turn in self.turns
        ]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)  # type: ignore[attr-defined]

    @torch.no_grad()
    def _first_examples(self, most: int) -> Batch:
        """Random examples of the fixed training split in model space, for data-dependent starts."""
        split = self.parts.dataset.split("train")
        assert split is not None
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(self.seed))[:most]
        batch = split.gather(order)
        x = self.parts.preprocess(batch.x.to(self.device), StepNoise(self.device, self.seed))[0]
        y, given = (None if t is None else t.to(self.device) for t in (batch.y, batch.given))
        return Batch(x, y, given)

    def save(self, name: str) -> str:
        """Write a checkpoint; returns its file hash ("" on ranks that do not write)."""
        if not self.world.main:
            return ""
        tensors = {f"model/{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"objective/{n}": t for n, t in self.parts.objective.state_dict().items()}
        tensors |= {f"preprocess/{n}": t for n, t in self.parts.preprocess.state_dict().items()}
        if self.ema is not None:
            self._copy_buffers()
            tensors |= {f"ema/{n}": t for n, t in self.ema.state_dict().items()}
        scalars = {}
        for turn, optimizer in zip(self.turns, self.optimizers, strict=True):
            some, scalars[turn.name] = checkpoints.pack(f"optimizer.{turn.name}", optimizer.state_dict())
            tensors |= some
        meta = {
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "stale": self.stale,
            "optimizers": scalars,
            "scaler": self.scaler.state_dict(),
        }
        path = inside(self.folder.path, "checkpoints", f"{name}.safetensors")
        return checkpoints.write(path, tensors, meta, keep_previous=name == "last")

    def load(self, path: Path) -> None:
        """Go on from a checkpoint: parameters, EMA, optimizers, scaler, position in the data."""
        tensors, meta = checkpoints.read(path)
        try:
            self.model.load_state_dict(checkpoints.under("model", tensors))
            self.parts.objective.load_state_dict(checkpoints.under("objective", tensors))
            self.parts.preprocess.load_state_dict(checkpoints.under("preprocess", tensors))
            if self.ema is not None:
                self.ema.load_state_dict(checkpoints.under("ema", tensors) or checkpoints.under("model", tensors))
            for turn, optimizer in zip(self.turns, self.optimizers, strict=True):
                state = checkpoints.unpack(f"optimizer.{turn.name}", tensors, meta["optimizers"][turn.name])
                options = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
                optimizer.load_state_dict(state)
                for parameter, moments in optimizer.state.items():
                    if any(isinstance(m, Tensor) and m.dim() and m.shape != parameter.shape for m in moments.values()):
                        raise ValueError(f"moments of {turn.name} are of another shape than its parameters")
                for group, option in zip(optimizer.param_groups, options, strict=True):
                    group.update(option)  # the config's weight decay and betas, not the checkpoint's
            if meta["scaler"]:
                self.scaler.load_state_dict(meta["scaler"])
            self.step, self.seconds, self.stale = meta["step"], meta["seconds"], meta["stale"]
            self.best = tuple(meta["best"]) if meta["best"] else None
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
            reason = quoted(str(error).splitlines()[-1].strip() if str(error) else type(error).__name__, 200)
            raise RunFailed(f"{path} does not fit the run's config: {reason}") from error
        self._drop_other_best()

    def _drop_other_best(self) -> None:
        """Forget a ``best`` that this checkpoint does not know: it comes from steps that are taken anew."""
        path = self.folder.path / "checkpoints" / "best.safetensors"
        other = False
        if self.world.main and path.exists():
            inside(self.folder.path, "checkpoints", "best.safetensors")
            other = self.best is None or checkpoints.read(path)[1].get("step") != self.best[1]
            if other:
                path.unlink()
        if distributed.share(other):  # one rank looks, all follow
            self.best, self.stale = None, 0

    # --- the loop ------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train until the budget is spent, patience ends, or someone asks to stop.

        Raises:
            Interrupted: a signal came; ``last`` is saved.
            RunFailed: a loss or gradient was not finite; nothing was stepped with it.
        """
        every, steps = self.trainer, self.trainer["max_steps"]
        batches = self._batches(self.step)
        logs: dict[str, Tensor] = {}
        logged = (self.step, self.seconds)
        self.model.train()
        self.parts.preprocess.train()
        mark = time.perf_counter()
        stopped = 0
        bar = self.reporter.progress("training", steps, every["max_minutes"])
        rate = score = ""
        with bar:
            if self.step == 0 and isinstance(self.model, DataInitialized):
                score = self._validate()  # a closed form or EM may be the best there is
                mark = time.perf_counter()
            if not self.turns:  # a closed form without parameters: its start is all
                self.save("last")
            while self.turns and not (self._spent() or self._stalled() or stopped):
                self._set_rates()
                for name, value in self._advance(batches).items():
                    logs[name] = logs[name] + value if name in logs else value
                self.step += 1
                self._average()

                if self.step % every["log_every"] == 0 or self.step == steps:
                    self._raise_if_bad()
                    rate = self._log(logs, logged, time.perf_counter() - mark)
                    logs, logged = {}, (self.step, self.seconds + time.perf_counter() - mark)
                mark, stopped = self._clock(mark)
                bar.at(self.step, f"{rate}  {score}", self.seconds)

                pause = time.perf_counter()
                due = self.step % every["eval_every"] == 0 or self._spent()
                if due or stopped:
                    self._raise_if_bad()
                    if due:
                        score = self._validate()
                    self.save("last")
                if every["sample_every"] and self.step % every["sample_every"] == 0 and not stopped:
                    self.on_sample(self.step, self._scored())
                mark += time.perf_counter() - pause  # validation and pictures are not training time
        if self._stalled():
            self.reporter.say(f"stopped early: no better validation in {self.stale} of them")
        if stopped:
            raise Interrupted(f"stopped by {signal.Signals(stopped).name} after step {self.step}, saved", stopped)

    def _advance(self, batches: Iterator[Batch]) -> dict[str, Tensor]:
        """One step: every turn's moves. Returns logs as device tensors."""
        logs: dict[str, Tensor] = {}
        accumulate = self.trainer["accumulate"]
        for number, (turn, optimizer) in enumerate(zip(self.turns, self.optimizers, strict=True)):
            self._only(turn)
            for move in range(turn.repeats):
                optimizer.zero_grad(set_to_none=True)
                total = torch.zeros((), device=self.device)
                for micro in range(accumulate):
                    seed = (self.seed, _TRAINING, self.step, self.world.rank, number, move, micro)
                    noise = StepNoise(self.device, *seed)
                    seed_global(self.device, mix_seed(*seed, 1))  # dropout has no generator of its own
                    batch = self._to_model_space(next(batches), noise)
                    with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
                        loss = turn.loss(batch, noise)
                    share = loss.value / (accumulate * self.symbols)
                    self.scaler.scale(share).backward()
                    total += share.detach()
                    for name, value in loss.logs.items():
                        logs[name] = logs.get(name, 0) + value / (accumulate * turn.repeats)  # type: ignore[operator]
                total = distributed.average_gradients(turn.parameters, total)
                self.scaler.unscale_(optimizer)
                gradients = [p.grad for p in turn.parameters if p.grad is not None]
                norm = nn.utils.get_total_norm(gradients)
                if self.trainer["clip_norm"]:
                    nn.utils.clip_grads_with_norm_(turn.parameters, self.trainer["clip_norm"], norm)
                self._guard(optimizer, total, norm)
                self.scaler.step(optimizer)
                self.scaler.update()
                if turn.project is not None:
                    turn.project()
                of = "" if len(self.turns) == 1 else f"_{turn.name}"
                logs["loss" + of] = logs.get("loss" + of, 0) + total / turn.repeats  # type: ignore[operator]
                logs["grad_norm" + of] = logs.get("grad_norm" + of, 0) + norm / turn.repeats  # type: ignore[operator]
        return logs

    def _guard(self, optimizer: torch.optim.Optimizer, loss: Tensor, norm: Tensor) -> None:
        """Refuse a step whose loss or gradient is not finite.

        Loss scaling (fp16) expects infinite gradients now and then and skips those steps itself. On CUDA a fused
        optimizer skips on the device (``found_inf``) and the host learns of it at the next log step, so that the two
        never wait for each other; elsewhere the host looks at once.
        """
        bad = ~torch.isfinite(loss if self.scaler.is_enabled() else loss + norm)
        if self.scaler.is_enabled():
            self.bad_step = torch.where((self.bad_step < 0) & bad, self.step, self.bad_step)
        elif self.device.type == "cuda" and optimizer.defaults.get("fused"):
            self.bad_step = torch.where((self.bad_step < 0) & bad, self.step, self.bad_step)
            optimizer.grad_scale = None  # type: ignore[attr-defined]
            optimizer.found_inf = (self.bad_step >= 0).float()  # type: ignore[attr-defined]
        elif bad:
            self.bad_step.fill_(self.step)
            self._raise_if_bad()

    def _raise_if_bad(self) -> None:
        step = int(self.bad_step)
        if step < 0:
            return
        if self.world.main:
            self._keep_evidence(step)
        rate = self.optimizers[0].param_groups[0]["lr"]
        norm = float(nn.utils.get_total_norm([p.detach() for turn in self.turns for p in turn.parameters]))
        raise RunFailed(
            f"the loss or its gradient was not finite at step {step}, with a learning rate of {rate:.3g} and "
            f"parameters of norm {norm:.3g}; the optimizer was not moved, checkpoints are as they were. nonfinite.json "
            f"and nonfinite.safetensors in {self.folder.path} hold statistics and the batch. "
            f"{self.parts.objective.advice()}"
        )

    def _keep_evidence(self, step: int) -> None:
        """Statistics of every parameter and gradient, and all examples of the step in data space.

        On CUDA, where the host learns of it later, gradients are those of the step at which it looks.
        """

        def statistics(t: Tensor | None) -> dict[str, float] | None:
            if t is None:
                return None
            t = t.detach().float()
            bad = float((~torch.isfinite(t)).sum())
            return {"mean": float(t.mean()), "abs_max": float(t.abs().max()), "nonfinite": bad}

        facts = {"step": step, "seed": self.seed}
        parameters = {
            name: {"value": statistics(p), "gradient": statistics(p.grad)}
            for name, p in [*self.model.named_parameters(), *self.parts.objective.named_parameters()]
        }
        write_json(inside(self.folder.path, "nonfinite.json"), {**facts, "parameters": parameters})
        batches = self._batches(step)  # a function of the step's number
        rows = [next(batches) for _ in range(self._moves)]
        evidence = {"x": torch.cat([batch.x for batch in rows])}
        if rows[0].y is not None:
            evidence["y"] = torch.cat([batch.y for batch in rows if batch.y is not None])
        checkpoints.write(inside(self.folder.path, "nonfinite.safetensors"), evidence, facts)

    @torch.no_grad()
    def _average(self) -> None:
        """EMA of the parameters: theta' <- d theta' + (1 - d) theta, with d growing from 0.1 to ``ema_decay``.

        torch's AveragedModel does the same but reads its counter on the host at every step.
        """
        if self.ema is not None:
            decay = min(self.trainer["ema_decay"], self.step / (self.step + 9))
            mine, theirs = self.averaged
            torch._foreach_lerp_(mine, theirs, 1 - decay)

    @torch.no_grad()
    def _validate(self) -> str:
        """Score the validation split, keep the best; returns a note for the progress bar."""
        if self.val is None:
            return ""
        model, objective = self._scored(), self.parts.objective
        model.eval()
        self.parts.preprocess.eval()
        objective.eval()
        is_nll = objective.score_name == "nll"
        scores = score_split(
            self.parts.preprocess,
            lambda batch, noise: objective.score(model, batch, noise),
            self.val,
            streams=[mix_seed(self.seed, _VALIDATION)],
            device=self.device,
            batch_size=self.trainer["eval_batch_size"],
            world=self.world,
            workers=self.trainer["workers"],
        )
        every = scores.nll if is_nll else scores.terms["model"]
        counts, per = self.val.counts, self.parts.dataset.per
        value = float(every.mean() if counts is None else every.sum() / counts.sum())
        values = {objective.score_name: value}
        if is_nll:
            values["bits_per_dim"] = bits_per_dim(value, self.parts.dataset.spec.dim if counts is None else 1)
        values |= self._health(model)
        self.model.train()
        self.parts.preprocess.train()
        objective.train()

        if math.isfinite(value) and (self.best is None or value < self.best[0]):
            self.best, self.stale = (value, self.step), 0
            self.save("best")
        else:
            self.stale += 1
        weights = "raw" if self.ema is None else "ema"
        self.reporter.metrics(self.step, "val", self.seconds, weights, values)
        self.folder.update(
            progress={"step": self.step, "seconds": round(self.seconds, 1)},
            best=None if self.best is None else {"step": self.best[1], objective.score_name: self.best[0]},
        )
        bits = f"bits/{per}" if per else "bpd"
        return f"val {objective.score_name} {value:.3f}" + (f" ({values['bits_per_dim']:.3f} {bits})" if is_nll else "")

    def _health(self, model: Model) -> dict[str, float]:
        """A model's own warning signs on a few validation rows, such as a flow's round-trip error."""
        assert self.val is not None
        count = min(64, len(self.val))
        batch = self.val.gather(torch.arange(count))
        ids = torch.arange(count, device=self.device)
        z, _ = self.parts.preprocess(batch.x.to(self.device), RowNoise(mix_seed(self.seed, _VALIDATION), ids))
        return model.health(z, None if batch.y is None else batch.y.to(self.device))

    # --- small things --------------------------------------------------------------------------------------------

    def _to_train(self) -> Model:
        """The model as losses see it: with compiled methods if asked. A shallow copy, which shares every parameter."""
        if not self.trainer["compile"]:
            return self.model
        view = copy.copy(self.model)
        own = [name for name in COMPILED if getattr(type(view), name, nn.Module.forward) is not nn.Module.forward]
        if not own:
            self.reporter.warn("trainer.compile=true: this model's losses call nothing that is compiled")
        for name in own:
            setattr(view, name, torch.compile(getattr(self.model, name)))
        return view

    def _scored(self) -> Model:
        """What is validated and drawn from: the EMA if there is one."""
        if self.ema is None:
            return self.model
        self._copy_buffers()
        return self.ema

    def _copy_buffers(self) -> None:
        assert self.ema is not None
        for mine, theirs in zip(self.ema.buffers(), self.model.buffers(), strict=True):
            mine.copy_(theirs)

    def _to_model_space(self, batch: Batch, noise: StepNoise) -> Batch:
        x = self.parts.preprocess.augment(self.parts.dataset.augment(batch.x, noise), noise)
        return replace(batch, x=self.parts.preprocess(x, noise)[0], progress=self._fraction())

    def _only(self, turn: Turn) -> None:
        """Let only this turn's parameters collect gradients."""
        if len(self.turns) > 1:
            own = {id(p) for p in turn.parameters}
            for p in (p for other in self.turns for p in other.parameters):
                p.requires_grad_(id(p) in own)

    @property
    def _moves(self) -> int:
        """Batches that a step takes."""
        return sum(turn.repeats for turn in self.turns) * self.trainer["accumulate"]

    def _batches(self, step: int) -> Iterator[Batch]:
        """Batches from a step on."""
        return train_batches(
            self.train,
            self.trainer["batch_size"] // self.trainer["accumulate"],
            self.seed,
            start=step * self._moves,
            rank=self.world.rank,
            world=self.world.size,
            device=self.device,
            workers=self.trainer["workers"],
        )

    def _fraction(self) -> float:
        """How much of the budget is used, in [0, 1]."""
        steps, minutes = self.trainer["max_steps"], self.trainer["max_minutes"]
        by_steps = self.step / steps if steps else 0.0
        by_clock = self.seconds / (60 * minutes) if minutes else 0.0
        return min(1.0, max(by_steps, by_clock))

    def _spent(self) -> bool:
        return self._fraction() >= 1.0

    def _stalled(self) -> bool:
        """Whether patience has run out."""
        return bool(self.trainer["patience"]) and self.stale >= self.trainer["patience"]

    def _set_rates(self) -> None:
        factor = schedule(self.optimizer_config, self.step, self._fraction())
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.optimizer_config["lr"] * factor

    def _clock(self, mark: float) -> tuple[float, int]:
        """Add the time since ``mark``; returns the new mark and the signal to stop for (0: none).

        Ranks agree on both every few steps, so that they spend the same budget and stop at the same step.
        """
        if self.world.size > 1 and self.step % SYNC_EVERY and self.step != self.trainer["max_steps"]:
            return mark, 0
        now = time.perf_counter()
        self.seconds += now - mark
        if self.world.size == 1:
            return now, self.stop.signal
        agreed = torch.tensor([self.seconds, float(self.stop.signal)], device=self.device, dtype=torch.float64)
        self.seconds, stop = distributed.largest(agreed).tolist()
        return now, int(stop)

    def _log(self, logs: dict[str, Tensor], since: tuple[int, float], extra: float) -> str:
        steps = self.step - since[0]
        seconds = self.seconds + extra
        values = {name: float(value) / steps for name, value in logs.items()}
        rate = steps / max(seconds - since[1], 1e-9)
        values |= {
            "lr": self.optimizers[0].param_groups[0]["lr"],
            "steps_per_second": rate,
            "examples_per_second": rate * self.trainer["batch_size"],
        }
        self.reporter.metrics(self.step, "train", seconds, "raw", values)
        shown = next(value for name, value in values.items() if name.startswith("loss"))
        return f"loss {shown:.3f}  {rate:.1f} steps/s"


def check(cfg: Mapping[str, Any], device: torch.device, world: distributed.World) -> torch.dtype:
    """The value gate of what the trainer alone knows; returns the number format of the networks.

    Raises:
        UsageError: the batch does not divide, or the device lacks the precision.
    """
    name, size = cfg["trainer"]["precision"], cfg["trainer"]["batch_size"]
    pieces = cfg["trainer"]["accumulate"] * world.size
    if size % pieces:
        raise UsageError(
            f"trainer.batch_size={size} does not divide into {pieces} equal parts "
            f"({cfg['trainer']['accumulate']} micro-batches on {world.size} processes)"
        )
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise UsageError("trainer.precision=fp16 needs a GPU: fp32 or bf16 on a CPU")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
