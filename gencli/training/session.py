"""One training run from its config to its result: ``open`` it, ``fit``, ``finish``.

::

    with Session.open(config) as session:
        session.fit()
        record = session.finish()
    samples = session.run.sample(16)

Everything that can be refused is refused by ``open``, before the run folder is made. Two sessions in one process share
torch's global generators only, which ``core.noise.GLOBAL`` lends to one thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from gencli.config import sections, stored
from gencli.config.locate import find_run
from gencli.core import distributed, sizes
from gencli.core.errors import GencliError, Interrupted, RunFailed, UsageError, near
from gencli.loggers.base import Logger
from gencli.models.base import Model
from gencli.pictures.files import keep, say_text, seen
from gencli.run.assembly import Parts, assemble, load_weights, loggers, placed, refuse_question, refuse_unused_context
from gencli.run.device import Threads, on_this_rank, slow_precision, threads
from gencli.run.folder import RunFolder
from gencli.run.opened import refuse_other_contexts, refuse_other_scale
from gencli.run.record import NLLRecord
from gencli.run.reporter import Reporter, relative, setting
from gencli.run.run import Run
from gencli.run.sampling import borrowed, draw
from gencli.run.sampling import check as check_sampler
from gencli.run.seen import Seen
from gencli.training import splits, strategy
from gencli.training.batches import settled
from gencli.training.final import measured
from gencli.training.loop import Trainer
from gencli.training.origin import NAMED, Origin
from gencli.training.precision import precision
from gencli.training.resumed import Resumed, data_sha256, may_download
from gencli.training.signals import Ended, StopRequest
from gencli.training.threads import ThreadChoice

RESULT = ("split", "metric", "value", "unit", "bits_per_dim", "bound", "estimator")
"""What run.json repeats of the final record."""


class Session:
    """One run while it is trained; made by ``open``, a context manager.

    Attributes:
        config: the config as it is stored.
        parts: data, model and their partners.
        folder: the run folder.
        trainer: with the state of training.
        drawn: files of the samples, once they are drawn; the first is for people.
    """

    def __init__(
        self,
        config: dict[str, Any],
        parts: Parts,
        folder: RunFolder,
        make_loggers: Sequence[Callable[..., Logger]],
        world: distributed.World,
        computing: Threads,
        resumed: Resumed | None,
        stop: StopRequest,
        begun: Mapping[str, Any] | None = None,
        test: bool = True,
    ) -> None:
        self.config, self.parts, self.folder, self.world, self.resumed = config, parts, folder, world, resumed
        self.begun, self.test = begun, test
        self.drawn: list[Path] = []
        self._undo = ExitStack()
        self._began = time.perf_counter()
        self._stop = stop
        start = resumed.step if resumed else 0
        self.reporter = Reporter(
            folder,
            [make(folder.path, start) for make in make_loggers if folder.writes],
            quiet=not world.main,
        )
        train = parts.dataset.training()
        assert train is not None
        self.trainer = Trainer(
            sections.trainer(config["trainer"]),
            sections.optimizer(config["optimizer"]),
            config["seed"],
            *(parts, train, parts.dataset.split("val"), folder, self.reporter, world, computing, self._stop),
            self._draw_while_training,
        )

    # --- open ----------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, cfg: Mapping[str, Any], sweep_dir: Path | None = None, *, test: bool = True) -> Session:
        """Build all parts of a config, or of the run that ``resume`` names; then make the folder, or reopen it.

        Args:
            cfg: a plain config of ``gencli train``, as ``config.compose`` gives it.
            sweep_dir: the folder of a sweep's job; None: ``run_dir``, or a new folder under outputs/.
            test: whether the test split is measured in the end; else it stays closed, and validation is.

        Raises:
            UsageError: the config is wrong; nothing was written.
            RunFailed: the run to go on with is damaged; nothing was written.
        """
        with ExitStack() as undo:
            world = distributed.join()
            undo.callback(distributed.leave)
            try:
                session = cls._open({**cfg, "device": on_this_rank(cfg["device"], world)}, sweep_dir, world, undo, test)
            except Interrupted as error:  # a second signal, before there is a session that answers it
                raise Ended(error.exit_code - 128) from error
            session._undo = undo.pop_all()
        return session

    @classmethod
    def _open(
        cls, cfg: dict[str, Any], sweep_dir: Path | None, world: distributed.World, undo: ExitStack, test: bool
    ) -> Session:
        resumed = Resumed.of(cfg, world, undo) if cfg.get("resume") else None
        named = {key: value for key, value in resumed.trained.items() if key in NAMED} if resumed else {}
        cfg |= named  # a run that was killed before its first checkpoint begins with the same weights again
        anew = resumed is None or resumed.checkpoint is None
        origin = Origin.of(cfg) if anew and cfg.get("init_from") else None
        computing = undo.enter_context(threads(cfg["threads"], resumed.threads if resumed else None))
        before = resumed or origin
        trained = before.trained if before else {}
        cfg["data"], typed = placed(cfg["data"], trained.get("data"))
        if typed := trained.get("typed", {}) | typed:
            cfg["typed"] = typed
        cfg |= {group: _with_runs(cfg.get(group), cfg["data"], group) for group in ("model", "objective", "estimator")}
        make_loggers = loggers(cfg)
        parts = assemble(
            cfg,
            download=before is None or may_download(cfg, before.trained),
            schema=stored.schema(resumed.folder.path) if resumed else origin.schema if origin else None,
        )
        cfg["trainer"] = settled(cfg["trainer"], parts, world)
        if not resumed:
            refuse_unused_context(parts)
            refuse_question(parts)
        options = sections.trainer(cfg["trainer"])
        precision(options, parts.device, world)
        strategy.settled(options, parts, world)
        check_sampler(parts)
        rounded = splits.prepare(parts, test)
        refuse_other_contexts([cfg["model"], cfg["objective"]], parts.model, parts.preprocess)
        refuse_other_scale(cfg["objective"], parts.preprocess)
        if resumed:
            resumed.check_data(cfg, parts)
        begun = origin.load(parts, cfg, test) if origin else None
        stop = undo.enter_context(StopRequest(speaks=world.main))  # from here on there is something to be saved
        if resumed:
            folder = resumed.folder
        else:
            folder = RunFolder(distributed.by_main(lambda: RunFolder.fresh_path(cfg, sweep_dir)), writes=world.main)
            undo.callback(folder.release)
            distributed.by_main(lambda: folder.hold(fresh=True))
        kept = {key: value for key, value in cfg.items() if key not in ("resume", *NAMED)}
        kept |= origin.named(cfg) if origin else named
        session = cls(kept, parts, folder, make_loggers, world, computing, resumed, stop, begun, test)
        undo.callback(session.reporter.close)
        session._introduce(rounded)
        return session

    def _introduce(self, rounded: str | None) -> None:
        """Begin the run's files, or go on in them; say what is trained, and what is odd about the data."""
        config, folder, trainer = self.config, self.folder, self.trainer
        parameters = sum(p.numel() for p in self.parts.model.parameters() if p.requires_grad)
        facts: dict[str, Any] = {"seed": config["seed"], "parameters": parameters, "strategy": trainer.strategy}
        facts |= {"device": str(self.parts.device), "world_size": self.world.size, "threads": trainer.choice.chosen}
        facts |= {"data_sha256": data_sha256(self.parts), "sizes": sizes.settled(self.parts.model)}
        facts |= {"init_from": self.begun} if self.begun else {}
        if self.resumed:
            if self.resumed.checkpoint:
                trainer.prepare()
                damages, step = [trainer.state.load(self.resumed.checkpoint)], trainer.state.step
            else:
                damages, step = [trainer.state.drop_other_best()], -1  # all of it takes place anew
            measured = self.resumed.finished and not trainer.over
            lines = folder.forget_after(step, measured=measured, due=trainer.state.due)
            damages += [f"metrics.jsonl was damaged: {lines} of its lines are gone"] if lines else []
            damages += [folder.reopen(config, **facts)]
            for damage in filter(None, damages):
                self.reporter.warn(damage)
            self.reporter.say(f"resuming {relative(folder.path)} at step {trainer.state.step}")
        else:
            folder.begin(config, self.parts.dataset.schema(), **facts)
        for line in self.parts.dataset.understood():
            self.reporter.say(line)
        names = config["choices"]
        self.reporter.say(
            f"{names['model']} on {names['data']}: {parameters:,} parameters{sizes.told(facts['sizes'])}, "
            f"{len(trainer.train):,} examples, {_where(self.parts.device, trainer.choice)}, seed {config['seed']} "
            f"-> {relative(folder.path)}"
        )
        if slow := slow_precision(trainer.options.precision, self.parts.device):
            self.reporter.warn(slow)
        if self.begun and not self.resumed:
            self._say_origin(self.begun)
        if rounded:
            self.reporter.say(rounded)
        if self.parts.preprocess.unbounded:
            self.reporter.warn(self.parts.preprocess.unbounded)
        self.reporter.text("model", str(self.parts.model))
        self.reporter.config(config)
        self._began = time.perf_counter()

    def _say_origin(self, begun: Mapping[str, Any]) -> None:
        """What the new run took over from another."""
        weights = f"{begun['weights']} weights of {relative(Path(begun['run']))}, checkpoint {begun['checkpoint']}"
        standardized = self.parts.preprocess.transform == "standardize"
        kept = "; mean and deviation of data.transform=standardize stay those of that run" * standardized
        self.reporter.say(f"begins with the {weights}{kept}")
        if "warning" in begun:
            self.reporter.warn(begun["warning"])
        for split, counts in begun["seen"].items():
            if told := Seen(**counts).told(split, f"the weights of init_from={relative(Path(begun['run']))}"):
                self.reporter.warn(told)

    # --- fit, finish ---------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train to the end of the budget.

        Raises:
            Interrupted: a signal came; the run is saved.
            RunFailed: training could not go on.
        """
        if not self.resumed or not self.resumed.checkpoint:
            alone = self.world.size == 1  # else the others would wait for this one
            with self._stop.raising("stopped before the first step") if alone else nullcontext():
                self.trainer.prepare(pretrained=self.begun is not None)
        self.folder.update(steps=self.trainer.max_steps)
        self.trainer.fit()

    def finish(self) -> NLLRecord | None:
        """Measure the best checkpoint on held-out data, once, and draw samples; the record, if there is an estimator.

        Raises:
            Interrupted: a signal came; training is complete and saved.
            RunFailed: some example has no finite NLL.
        """
        distributed.share(None)  # the checkpoint is on disk before other ranks read it
        with self._stop.raising("stopped during the final evaluation; training is complete and saved"):
            load_weights(self.parts, self.folder.path, None, "best")
            record = self._measure() if self.parts.estimator is not None else None
            if self.world.main and self._draws:
                self._sample()
        self._stop.deaf = True  # all that remains is to say so
        if record and record.n_nonfinite:
            raise RunFailed(f"{record.n_nonfinite} of {record.n_examples} {record.split} examples have no finite NLL")
        if record:
            self.reporter.record(self.trainer.state.step, record)
        self._update(status="finished", result=record and {key: getattr(record, key) for key in RESULT})
        return record

    @property
    def run(self) -> Run:
        """The run as ``gencli.load`` opens it, with the parts as they are.

        Raises:
            RunFailed: its config is gone meanwhile.
        """
        try:
            return Run(self.folder.path, trust=self.config["trust"], device=self.config["device"], parts=self.parts)
        except UsageError as error:
            raise RunFailed(str(error)) from error

    def _measure(self) -> NLLRecord:
        state, parts = self.trainer.state, self.parts
        seconds = state.clock.seconds
        record = measured(parts, self.folder.path, self.config, seconds, self.test, self.world, self.reporter)
        if self.test:  # else it would stand beside the last validation, which is of other weights
            self.reporter.metrics(state.step, record.split, seconds, parts.weights, {"nll": record.value})
        return record

    # --- samples -------------------------------------------------------------------------------------------------

    @property
    def _draws(self) -> bool:
        """Whether training draws samples."""
        return self.parts.sampler is not None and self.config["n"] > 0

    def _sample(self) -> None:
        config, parts = self.config, self.parts
        began = time.perf_counter()
        with self.reporter.progress("sampling", config["n"]) as bar:
            drawn = draw(parts, config["n"], config["seed"], tick=bar.at)
        drawn.x.cpu()  # which waits for a GPU
        self.folder.update(sampling_seconds=round(time.perf_counter() - began, 4))
        if note := borrowed(parts):
            self.reporter.say(f"  {note}")
        say_text(parts, drawn.x, self.reporter)
        self.drawn = keep(parts, self.folder.path, config["choices"]["sampler"], config["seed"], drawn.x, drawn.y)
        self._show(self.trainer.state.step, drawn.x, self.drawn)

    def _show(self, step: int, x: Tensor, files: Sequence[Path]) -> None:
        """Give the picture of samples to the loggers, if there are any."""
        picture = seen(self.parts, x, files) if self.reporter.loggers else None
        if picture is not None:
            self.reporter.image(step, "samples", picture)

    @torch.no_grad()
    def _draw_while_training(self, step: int, model: Model) -> None:
        """A picture of the same latents as training goes on."""
        if not self.folder.writes or not self._draws:
            return
        config, parts = self.config, self.parts
        model.eval()
        try:
            drawn = draw(parts, min(config["n"], 64), config["seed"])
            files = keep(parts, self.folder.path, f"step-{step:07d}", config["seed"], drawn.x, drawn.y)
            self._show(step, drawn.x, files)
        finally:
            model.train()

    # --- the end -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say in run.json how the session ended, if it did not finish; close the loggers, leave the other ranks."""
        self._stop.deaf = True
        try:
            if error is not None and self.folder.info.get("status") == "running":
                with suppress(RunFailed):  # a folder that is gone, a full disk: the error says it
                    self._end(error)
        finally:
            self._undo.close()

    def _end(self, error: BaseException) -> None:
        if not isinstance(error, Interrupted | KeyboardInterrupt):
            self._update(status="failed", reason=str(error))
            if isinstance(error, GencliError):
                self.reporter.log(f"failed: {error}")
            return
        self._update(status="interrupted")
        again = f"go on with: gencli train {setting('resume', self.folder.path)}"
        self.reporter.say(f"{str(error) or 'interrupted'}; {again}")

    def _update(self, **info: Any) -> None:
        """Change run.json, with how far it came and the wall time over all sessions of this run."""
        state = self.trainer.state
        wall = (self.folder.info.get("wall_seconds") or 0.0) + time.perf_counter() - self._began
        self._began = time.perf_counter()
        progress = {"step": state.step, "seconds": round(state.clock.seconds, 1)}
        self.folder.update(**info, progress=progress, wall_seconds=round(wall, 1))


# --- what open is made of --------------------------------------------------------------------------------------------


def _where(device: torch.device, choice: ThreadChoice) -> str:
    """The device, and how many threads a CPU computes with."""
    most = "" if choice.settled else "up to "
    count = f"{choice.threads.count} thread{'s' * (choice.threads.count > 1)}"
    return f"{device} with {most}{count}" if device.type == "cpu" else str(device)


def _with_runs(node: Any, data: Mapping[str, Any], where: str) -> Any:
    """A section in which runs are named by absolute paths, so that it can be read from anywhere.

    Raises:
        UsageError: there is no such run, or it was trained in another model space, where its model means nothing.
    """
    if not isinstance(node, Mapping):
        return node
    found = {}
    for key, value in node.items():
        found[key] = _with_runs(value, data, f"{where}.{key}")
        if stored.names_run(key, value):
            try:
                folder = find_run(str(value)).resolve()  # a folder may be called 1
            except UsageError as error:
                hint = near(value, ["data"]) if key == "target" else ""
                raise UsageError(f"{where}.{key}={error} {hint}".rstrip()) from error
            theirs = Run(folder).trained.get("data") or {}
            for name in sorted({*sections.PREPROCESSING} - {"flip"}):
                if data.get(name) != theirs.get(name):
                    raise UsageError(
                        f"data.{name}={data.get(name)}: the run {value} has {theirs.get(name)}; they must agree"
                    )
            found[key] = str(folder)
    return found
