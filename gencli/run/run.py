"""A run, opened again: its model, samples, likelihoods; the Python side of ``gencli sample`` and ``eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gencli.config import stored
from gencli.config.locate import checkpoint_in, find_run
from gencli.core.errors import RunFailed, UsageError
from gencli.core.files import inside
from gencli.estimators.base import Estimator
from gencli.models.base import ExactLikelihood, Model
from gencli.run import plain_weights, quality, sampling, show
from gencli.run.assembly import PLACES, Parts, check_part, restore
from gencli.run.conditioned import Conditioned, one
from gencli.run.drawing import Drawing
from gencli.run.measure import Measurement, measure
from gencli.run.nll import HeldOutNLL, usual_examples
from gencli.run.opened import builder
from gencli.run.rows import checked_rows, log_prob
from gencli.run.subject import ask
from gencli.samplers.base import Answer, Question

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from pandas import DataFrame

MOVABLE = (*PLACES, "separator", "decimal", "memory")
"""Options of data that say where a file lies, how its text is written, and where its numbers are kept."""


class Run:
    """A finished or unfinished run, opened for reading, sampling and scoring.

    Opening runs no code of the folder: the config is plain data, classes come from gencli or from trusted packages,
    weights are safetensors.

    Args:
        path: the run folder.
        trust: packages whose classes its config may name.
        device: ``auto``, ``cpu``, ``cuda`` ...
        weights: ``ema`` or ``raw``; None: the EMA where the run kept one.
        checkpoint: ``best``, ``last``, ``previous`` or a path.
        overrides: replacements within the config, by group.
        parts: as they were built and loaded already; None: built when they are asked for.

    Raises:
        UsageError: the folder holds no run, or its config no plain data.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        trust: Sequence[str] = (),
        device: str = "auto",
        weights: str | None = None,
        checkpoint: str = "best",
        overrides: Mapping[str, Any] | None = None,
        parts: Parts | None = None,
    ) -> None:
        self.path = Path(path)
        self.trust = list(trust)
        self.device = device
        self.wanted = (weights, checkpoint)
        self.trained: dict[str, Any] = stored.config(self.path)
        self.config: dict[str, Any] = self.trained | dict(overrides or {}) | {"trust": self.trust}
        self._parts = parts

    def __repr__(self) -> str:
        return show.line(self.path, self.trained)

    def _repr_html_(self) -> str:
        """In a notebook: model, data, number with its bound, and the samples."""
        return show.page(self.path, self.trained)

    @property
    def info(self) -> dict[str, Any]:
        """run.json."""
        return stored.info(self.path)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """metrics.jsonl, a dict a line."""
        return stored.metrics(self.path)

    @property
    def history(self) -> DataFrame:
        """metrics.jsonl as a pandas table, a row a line: ``step``, ``split``, ``seconds``, ``weights``, the metrics."""
        import pandas

        return pandas.DataFrame(self.metrics)

    @property
    def results(self) -> list[dict[str, Any]]:
        """The result records under eval/."""
        return [stored.record(file) for file in sorted((self.path / "eval").glob("*.json"))]

    @property
    def parts(self) -> Parts:
        """Data, preprocessing, model and its partners, with the checkpoint's weights."""
        if self._parts is None:
            self._parts = restore(self.config, self.path, self.device, *self.wanted, download=not self._reads_only)
            sampling.check(self._parts)
        return self._parts

    @property
    def _reads_only(self) -> bool:
        """Whether the folder of data files is one that the run names, not the user."""
        root = self.config["data"].get("root")
        return root is not None and root == self.trained["data"].get("root")

    @property
    def model(self) -> Model:
        """The model, in evaluation mode."""
        return self.parts.model

    def sample(self, n: int, seed: int = 0, y: ArrayLike | None = None) -> Tensor:
        """N samples in data units, (n, *); y: labels or contexts of a conditional model (classes in turn if None).

        Data that need float64 are drawn in it.
        """
        return sampling.draw(self.parts, n, seed, y).x.cpu()

    def log_prob(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        seed: int = 0,
        given: ArrayLike | None = None,
        ids: ArrayLike | None = None,
    ) -> Tensor:
        """Log p(x) in data space, (B,) nats; of integer data under a model of reals, a lower bound.

        It is scored as the record of ``estimator=exact`` scores it: with as many draws of the dequantization as the
        run's estimator takes, and the noise of an example is named by its position. So -log_prob of a split's examples,
        in their order, is what their record keeps for each.

        Tensors, arrays and lists are taken alike.

        Args:
            x: (B, *) examples in data units.
            y: (B,) labels or (B, *) contexts of a conditional model.
            seed: of the dequantization.
            given: (B,) number of leading symbols of each row that are context and not scored; only of text.
            ids: (B,) positions of the rows in their split, which name their noise; None: 0, 1, 2 ...

        Raises:
            UsageError: this model has no normalised density, or x is not in data space, or y no context of x.
        """
        parts = self.parts
        if not isinstance(parts.model, ExactLikelihood):
            name, way = (self.config["choices"].get(group) for group in ("model", "estimator"))
            more = f": run.nll() measures it by estimator={way}" if way else ""
            raise UsageError(f"model={name} has no exact likelihood{more}")
        return log_prob(parts, checked_rows(parts, x, y, given), seed, ids, self.config["trainer"]["eval_batch_size"])

    def condition(self, y: Any) -> Conditioned:
        """The density p(x given y) at one y, with ``sample``, ``log_prob`` and ``nll`` of its own.

        Args:
            y: in the units of the data: a class by name or number, a context vector as numbers or by the names of its
                columns, ``{"age": 40, "dose": 0.1}``, an image as an array of its shape.

        Raises:
            UsageError: the model is not conditional, there is no such class or column, or y has another shape.
        """
        return Conditioned(self.parts, one(self.parts, y), self.config["trainer"]["eval_batch_size"])

    def picture(self, name: str, n: int = 64, seed: int = 0, **options: Any) -> Any:
        """A picture of the run, as ``gencli sample run=... picture=NAME`` draws it; nothing is written.

        Args:
            name: an option of the group ``picture``, such as ``"latent"``.
            n: examples or samples that it is made of.
            seed: of what it draws.
            options: the picture's own, such as ``side=20``.

        Returns:
            A matplotlib figure where the picture is one, else an image of PIL, else a page (a text that a notebook
            shows) or None.

        Raises:
            UsageError: there is no such picture, or the model or its data cannot be shown like this.
        """
        from gencli.config.compose import compose, quote

        section = compose("sample", [f"run={quote(str(self.path))}", f"picture={name}"])["picture"]
        drawing = builder(self.trust).component({**section, **options}, Drawing, group="picture")
        if lacking := [kind.__name__ for kind in drawing.requires if not isinstance(self.model, kind)]:
            raise UsageError(f"picture={name} needs {' and '.join(lacking)}, which the model lacks")
        return drawing.show(self.parts, n, seed)

    def ask(self, name: str, n: int | None = None, seed: int = 0, **options: Any) -> Answer:
        """Put a question to the model, as ``gencli sample run=... sampler=NAME`` does; nothing is written.

        Args:
            name: a question of the group ``sampler``.
            n: rows that it is about; None: as many as is usual.
            seed: of everything random.
            options: the question's own.

        Raises:
            UsageError: there is no such question, or it does not fit model and data.
        """
        from gencli.config.compose import compose, quote

        section = compose("sample", [f"run={quote(str(self.path))}", f"sampler={name}"])["sampler"]
        question = builder(self.trust).component({**section, **options}, Question, group="sampler")
        check_part("sampler", question, self.parts)
        return ask(replace(self.parts, sampler=question), n, seed)

    def export(self, path: str | Path = "model.safetensors") -> Path:
        """Write the model's weights for use without gencli: its state dict as safetensors; returns the file.

        The metadata of the file hold, as JSON under ``about``, the model's section of the config, shape and support of
        its x, the protocol of its numbers, and which weights these are. ``help("gencli.run.plain_weights")`` shows how
        such a file is read in plain PyTorch.

        Args:
            path: the file; one that is there is replaced.

        Raises:
            UsageError: the path leads into no folder.
        """
        parts = self.parts
        about = {
            "model": self.trained["model"],
            "shape": list(parts.model.spec.shape),
            "support": str(parts.model.spec.support),
            "protocol": parts.protocol(),
            "weights": parts.weights,
        }
        return plain_weights.export(parts.model, path, about)

    def nll(
        self,
        split: str = "test",
        *,
        estimator: str | None = None,
        batch_size: int | None = None,
        examples: int | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """A result record, as ``gencli eval run=... split=...`` gives it and writes it.

        Args:
            split: ``train``, ``val``, ``test``, or ``all`` rows of a file.
            estimator: an option's name as on the command line; None: the run's own.
            batch_size: rows at a time; None: the run's ``trainer.eval_batch_size``.
            examples: measure this many, drawn at random; None: the run's ``trainer.eval_examples``, else all.
            seed: of the dequantization and of the estimator.

        Raises:
            UsageError: there is no such split or estimator, or the model has none.
        """
        name, config = self.config["choices"].get("estimator"), self.config.get("estimator")
        if estimator is not None:
            from gencli.config.compose import compose, quote

            name = estimator
            config = compose("eval", [f"run={quote(str(self.path))}", f"estimator={estimator}"])["estimator"]
        part = builder(self.trust).component(config, Estimator) if config else None
        if part is not None:
            check_part("estimator", part, self.parts)
        some = examples or usual_examples(self.config, split)
        asked = {"estimator": config, "choices": {**self.config["choices"], "estimator": name}}
        wanted = HeldOutNLL(estimator=part, examples=some)
        ((record, _),) = measure(self._measurement(split, seed, batch_size, **asked), wanted)
        return record.plain()

    def _measurement(self, split: str, seed: int, batch_size: int | None, **asked: Any) -> Measurement:
        return Measurement(
            parts=self.parts,
            run=self.path,
            config=self.config | asked,
            trained=self.trained,
            split=split,
            seed=seed,
            batch_size=batch_size or self.config["trainer"]["eval_batch_size"],
        )

    def measure(
        self,
        metrics: Sequence[str] | str,
        split: str = "test",
        *,
        n: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        **options: Mapping[str, Any],
    ) -> dict[str, dict[str, Any]]:
        """Compare samples with a split: records by metric, as ``gencli eval run=... metrics=[...]`` writes them.

        Args:
            metrics: options of the group ``metric``, such as ``["mmd", "c2st"]``, or one.
            split: the reference: ``test``, ``val`` or ``train``.
            n: number of samples; None: as many as there are reference examples, 10,000 at most.
            seed: of the samples and of the metrics' own draws.
            batch_size: samples drawn at a time; None: the run's ``trainer.eval_batch_size``.
            options: a metric's settings under its name, such as ``mmd={"bandwidth": 1.0}``.

        Raises:
            UsageError: a metric does not fit this data or model, or takes no such option.
        """
        from gencli.config.compose import compose, quote

        metrics = [metrics] if isinstance(metrics, str) else metrics
        chosen = compose("eval", [f"run={quote(str(self.path))}", f"metrics=[{','.join(metrics)}]"])["metrics"]
        for name in sorted({*options} - {*chosen}):
            raise UsageError(f"options for {name}, which is not among metrics=[{','.join(metrics)}]")
        wanted = {name: {**node, **options.get(name, {})} for name, node in chosen.items()}
        quantity = quality.Metrics(metrics=quality.build(wanted, self.parts, self.trust), n=n)
        records = measure(self._measurement(split, seed, batch_size, metrics=wanted), quantity)
        return {record.metric: record.plain() for record, _ in records}


def load(path: str | Path = "latest", **options: Any) -> Run:
    """Open a run folder, a checkpoint in it, or the ``latest`` run; options as for ``Run``."""
    named = checkpoint_in(str(path))
    return Run(find_run(str(path)), **({"checkpoint": named} if named else {}) | options)


def open_run(cfg: Mapping[str, Any], results: str, *partners: str) -> Run:
    """The run of an eval or sample command, with the command's own partners of the model: estimator, sampler.

    Args:
        cfg: the command's config.
        results: the folder in the run that the command will write into.
        partners: groups of the command's config that stand for the run's own.

    Raises:
        UsageError: the command changes the model, or the data beyond where its files lie.
        RunFailed: the folder of results is a link.
    """
    run = Run(
        find_run(cfg["run"]),
        trust=cfg["trust"],
        device=cfg["device"],
        weights=cfg["weights"],
        checkpoint=cfg["checkpoint"],
        overrides={key: cfg[key] for key in ("data", *partners) if key in cfg},
    )
    refuse_changes(run.trained, cfg, ("model", "data"))
    if (folder := inside(run.path, results)).exists() and not folder.is_dir():
        raise RunFailed(f"{folder} is no folder: remove it")
    return run


def refuse_changes(trained: Mapping[str, Any], cfg: Mapping[str, Any], groups: Sequence[str]) -> None:
    """A run keeps what its weights and its numbers mean; only where its files lie may change, and how they are written.

    Raises:
        UsageError: names the first key of these groups that the command changes.
    """
    for group in groups:
        own, asked = trained.get(group) or {}, cfg.get(group) or {}
        for key in sorted({*own, *asked}.difference(MOVABLE if group == "data" else ())):
            if key not in own or own[key] != asked[key]:
                raise UsageError(f"{group}.{key}={asked[key]}: a run keeps the {group} that it was trained with")
