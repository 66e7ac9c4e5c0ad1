"""The training loop, once, for every family: an objective's turns, EMA, schedule, validation, checkpoints.

What it works on lies beside it: the ``state`` that a checkpoint holds, the ``clock``, the ``guard`` against losses that
are not finite, and ``validate``.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator

import torch

from gencli.config.sections import OptimizerOptions, TrainerOptions
from gencli.core import distributed
from gencli.core.bounds import nats
from gencli.core.errors import Interrupted, RunFailed
from gencli.core.noise import Purpose, StepNoise, seeded_global, stream
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.data.loading import train_batches
from gencli.models.base import DataInitialized, Model
from gencli.run.assembly import Parts
from gencli.run.device import Threads
from gencli.run.folder import RunFolder
from gencli.run.progress import Bar
from gencli.run.reporter import Reporter
from gencli.training.clock import Clock
from gencli.training.compiled import Compilation
from gencli.training.guard import Guard
from gencli.training.moves import Moves
from gencli.training.optim import make_optimizer, schedule, set_rate
from gencli.training.precision import precision
from gencli.training.signals import StopRequest
from gencli.training.state import State
from gencli.training.strategy import Shards, settled
from gencli.training.threads import ThreadChoice
from gencli.training.validate import Validation, seconds
from gencli.training.writer import aside


class Trainer:
    """Trains the parts of one run.

    Args:
        options: the section ``trainer``.
        optimizer: the section ``optimizer``.
        seed: the run's: everything random at a step is a function of it, of the step and of the rank.
        parts: what to train, on its device.
        train: training examples.
        val: validation examples, or None.
        folder: the run folder.
        reporter: says what happens.
        world: this process among its peers.
        threads: of the CPU, which compute now.
        stop: asked at every step.
        on_sample: called with (step, model) every ``trainer.sample_every`` steps.

    ``max_steps``: the number of steps that bounds training, once it is prepared; None: only the clock does.

    Raises:
        UsageError: the batch does not divide, or the device lacks the precision.
    """

    bar: Bar

    def __init__(
        self,
        options: TrainerOptions,
        optimizer: OptimizerOptions,
        seed: int,
        parts: Parts,
        train: Split,
        val: Split | None,
        folder: RunFolder,
        reporter: Reporter,
        world: distributed.World,
        threads: Threads,
        stop: StopRequest,
        on_sample: Callable[[int, Model], None],
    ) -> None:
        self.options, self.optimizer, self.seed = options, optimizer, seed
        self.parts, self.train = parts, train
        self.reporter, self.world, self.stop, self.on_sample = reporter, world, stop, on_sample
        self.device = parts.device
        self.precision = precision(options, parts.device, world)
        self.strategy = settled(options, parts, world)
        self.clock = Clock(world)
        trained = (parts.model, parts.objective, parts.preprocess)
        self.state = State(*trained, self.clock, folder.path, writes=world.main, aside=aside(parts.device))
        self.guard = Guard(self.state, seed, self.device, self._batches_of)
        self.moves = Moves(options, seed, parts, self.state, self.guard, world, self.precision, reporter)
        self.choice = ThreadChoice(threads, self.device, self.clock.now, folder, reporter, alone=world.size == 1)
        self.compilation = Compilation(
            options.compile, parts, self.state, folder, reporter, self.clock, self.moves.autocast
        )
        self.validation = None
        if val is not None:
            self.validation = Validation(
                *(val.to(self.device), parts, self.state, folder, reporter, world, stop),
                seed=seed,
                batch_size=options.eval_batch_size,
                workers=options.workers,
                most=options.most_examples,
            )
        self.starts_good = False
        self._began = False
        self.told = dict.fromkeys(("loss", "val", "bits", "rate"), "")  # the first are said wherever there is room
        self.stopped = 0
        self.max_steps: int | None = None

    def prepare(self, *, pretrained: bool = False) -> None:
        """Data-dependent starts, then optimizers and EMA; before ``load`` or ``fit``.

        Args:
            pretrained: the model has its weights from another run, and starts from these instead of from the data.

        Raises:
            RunFailed: a model cannot start from these examples.
        """
        model, objective, state = self.parts.model, self.parts.objective, self.state
        self.starts_good = pretrained or isinstance(model, DataInitialized)
        wanted = objective.initial_examples
        with seeded_global(self.device, stream(self.seed, Purpose.TRAINING)):  # a network that starts may have dropout
            try:
                if isinstance(model, DataInitialized) and not pretrained:
                    model.initialize_from(self._first_examples(model.initial_examples))
                objective.start(model, self._first_examples(wanted) if wanted else None)
            except ValueError as error:
                raise RunFailed(str(error)) from error
        distributed.broadcast_state(model, objective)
        if self.strategy == "fsdp":
            state.strategy = Shards(model, objective, self.device)
        if self.options.ema_decay:
            state.begin_average()
        state.turns = [turn for turn in objective.turns(model) if turn.parameters]
        state.optimizers = [
            make_optimizer(turn, (model, objective), self.optimizer, self.device, state.strategy.own)
            for turn in state.turns
        ]
        rows = self._batches_a_step * (self.options.rows // self.options.accumulate)
        self.max_steps = self.options.steps(len(self.train) / max(1, rows))
        state.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)

    @torch.no_grad()
    def _first_examples(self, most: int) -> Batch:
        """Random examples of the fixed training split in model space, for data-dependent starts."""
        split = self.parts.dataset.split("train")
        assert split is not None
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(self.seed))[:most]
        return self.parts.preprocess.batch(split.gather(order).to(self.device), StepNoise(self.device, self.seed))[0]

    # --- the loop ------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train until the budget is spent, patience ends, or someone asks to stop.

        Raises:
            Interrupted: a signal came; ``last`` is saved.
            RunFailed: a loss or gradient was not finite; nothing was stepped with it.
        """
        try:
            self._fit()
        finally:
            self.state.writer.wait()
        if self.stopped:
            name = signal.Signals(self.stopped).name
            raise Interrupted(f"stopped by {name} after step {self.state.step}, saved", self.stopped)

    def _fit(self) -> None:
        """To the end of training, or until it is stopped; the last checkpoint may still be written."""
        state, options, clock = self.state, self.options, self.clock
        self._begin()
        with self.bar:
            if not state.loaded or state.due:
                with clock.paused():
                    if self.starts_good or state.due:
                        self._validate()  # a closed form, EM or another run's weights may be the best
                    state.save("last")  # a kill before the first validation leaves a run that can go on
            with clock.paused():
                self._draw()  # anew: the run may have been killed or stopped before it
            while not (self.over or self.stopped):
                self.steps(self._to_next_pause())
                with clock.paused():
                    state.due = state.step % options.eval_every == 0 or self._spent
                    if state.due or self.stopped:
                        self.guard.check()
                        if state.due and not self.stopped:
                            self._validate()
                        self._show()  # in place of what it said meanwhile
                        state.save("last")
                    if not self.stopped:
                        self._draw()
        if not self.stopped:
            self.state.strategy.end()
            self.choice.end()
        if self._stalled:
            self.reporter.say(f"stopped early: no better validation in {state.stale} of them")

    def steps(self, count: int) -> None:
        """Take ``count`` training steps, fewer where the budget ends or someone asks to stop.

        It is what ``fit`` does between validations, lines of metrics and of progress included.

        Raises:
            RunFailed: a loss or gradient was not finite; nothing was stepped with it.
        """
        if not self._began:
            self._begin()
        state = self.state
        for _ in range(count):
            self._step()
            if state.step % self.options.log_every == 0 or state.step == self.max_steps:
                self._log()
            self.stopped = self.clock.agree(state.step, self.max_steps, self.stop.signal, self.device)
            self._show()
            if self.stopped or self._spent:
                return

    @property
    def over(self) -> bool:
        """Whether training has come to its end."""
        return not self.state.turns or self._spent or self._stalled

    def _draw(self) -> None:
        """The picture of this step, if it has one."""
        every, step = self.options.sample_every, self.state.step
        if every and step and step % every == 0:
            with self.state.measured() as model:
                self.on_sample(step, model)

    def _to_next_pause(self) -> int:
        """Steps up to the next validation or picture."""
        every = filter(None, (self.options.eval_every, self.options.sample_every))
        return min(number - self.state.step % number for number in every)

    def _step(self) -> None:
        """All turns, once, and the average of the weights."""
        self.choice.before_step()
        if self.choice.settled and self.compilation.before_step(self._left, self._some_batch):  # for so many threads
            self.moves.begin()
        self._set_rates()
        logs = self.state.logs
        for name, value in self.moves.step(self._batches, self._fraction).items():
            logs[name] = logs[name] + value if name in logs else value
        self.state.step += 1
        self.state.average(self.options.ema_decay)

    def _begin(self) -> None:
        """Go on from the state as it is."""
        self._began, self._batches = True, self._batches_from(self.state.step)
        self.moves.begin()
        self.state.logs = {name: value.to(self.device) for name, value in self.state.logs.items()}
        self.parts.model.train()
        self.parts.preprocess.train()
        self.bar = self.reporter.progress("training", self.max_steps, self._fraction)
        self.clock.start()

    def _validate(self) -> None:
        """Score, and keep the best. What a signal ends is due in the resumed run.

        Raises:
            Interrupted: a signal came meanwhile; ``last`` is saved.
        """
        if self.validation is not None:
            at = (self._fraction, self.clock.seconds, self.state.step, self.max_steps)
            try:
                self.told |= self.validation.run(self.bar, seconds(self.options, *at))
            except Interrupted:
                self.state.due = True
                self.state.save("last")
                raise
        self.state.due = False

    def _left(self) -> tuple[int | None, float | None]:
        """Steps and seconds that are left, where they are bounded."""
        steps, minutes = self.max_steps, self.options.max_minutes
        return steps and steps - self.state.step, minutes and 60 * minutes - self.clock.now()

    def _some_batch(self) -> Batch:
        """The batch of this step, without taking it."""
        batch = next(self._batches_from(self.state.step))
        return self.moves.to_model_space(batch, StepNoise(self.device, self.seed), self._fraction)

    # --- batches, budget, rates, logs ----------------------------------------------------------------------------

    @property
    def _batches_a_step(self) -> int:
        """Batches that a step takes."""
        return sum(turn.repeats for turn in self.state.turns) * self.options.accumulate

    def _batches_from(self, step: int) -> Iterator[Batch]:
        return train_batches(
            self.train,
            self.options.rows // self.options.accumulate,
            self.seed,
            start=step * self._batches_a_step,
            rank=self.world.rank,
            world=self.world.size,
            device=self.device,
            workers=self.options.workers,
        )

    def _batches_of(self, step: int) -> list[Batch]:
        return list(itertools.islice(self._batches_from(step), self._batches_a_step))

    @property
    def _fraction(self) -> float:
        """How much of the budget is used, in [0, 1]."""
        steps, minutes = self.max_steps, self.options.max_minutes
        by_steps = self.state.step / steps if steps else 0.0
        by_clock = self.clock.seconds / (60 * minutes) if minutes else 0.0
        return min(1.0, max(by_steps, by_clock))

    @property
    def _spent(self) -> bool:
        return self._fraction >= 1.0

    @property
    def _stalled(self) -> bool:
        """Whether patience has run out."""
        return self.options.patience is not None and self.state.stale >= self.options.patience

    def _set_rates(self) -> None:
        factor = schedule(self.optimizer, self.state.step, self._fraction)
        for optimizer in self.state.optimizers:
            set_rate(optimizer, self.optimizer.lr * factor)

    def _log(self) -> None:
        """One line of metrics: means since the last one."""
        self.guard.check()
        now = self.clock.now()
        steps = self.state.step - self.state.logged[0]
        rate = steps / max(now - self.state.logged[1], 1e-9)
        values = {name: float(value) / steps for name, value in self.state.logs.items()}
        values |= {
            "lr": float(self.state.optimizers[0].param_groups[0]["lr"]),
            "steps_per_second": rate,
            "examples_per_second": rate * self.options.rows,
        }
        self.state.logs, self.state.logged = {}, (self.state.step, now)
        self.reporter.metrics(self.state.step, "train", now, "raw", values)
        shown = next(value for name, value in values.items() if name.startswith("loss"))
        self.told |= {"loss": f"loss {nats(shown)}", "rate": f"{rate:.1f} steps/s"}

    def _show(self) -> None:
        """The progress line."""
        self.bar.at(self.state.step, self._fraction, **self.told)
