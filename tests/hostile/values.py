"""Values and choices that make no sense."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from hostile.base import ESCAPE, MARKUP, SECTIONS, Case, merging, setting, text
from hostile.defaults import word

ODD: dict[str, object] = {
    "list": [1, 2],
    "mapping": {"a": {"_target_": "os.system"}},
    "text": "touch ran",
    "negative": -1,
    "zero": 0,
    "nan": float("nan"),
    "infinite": float("inf"),
    "minus": float("-inf"),
    "int63": 2**63,
    "int70": 2**70,
    "large": 1e308,
    "null": None,
    "true": True,
    "escape": ESCAPE,
}
TRAINER = (
    *("max_steps", "max_minutes", "batch_size", "accumulate", "eval_every", "log_every", "sample_every", "precision"),
    *("compile", "ema_decay", "clip_norm", "patience", "workers", "eval_batch_size", "eval_examples"),
    *("max_epochs", "eval_minutes"),
)
OPTIMIZER = ("name", "lr", "weight_decay", "schedule", "warmup_steps", "final_lr_fraction", "betas")
VALUE_KEYS = (
    *(f"trainer.{key}" for key in TRAINER),
    *(f"optimizer.{key}" for key in OPTIMIZER),
    *("logger.tensorboard", "seed", "device", "threads", "n", "run_dir", "choices", "trust"),
    *("model.conditional", "model.net", "model.net.vector", "model.net.vector.hidden"),
    *("data.train", "data.val", "data.seed", "data.root", "data.flatten", "data.alpha", "data.transform"),
    *("sampler.classes", "estimator.draws", "objective.x"),
    *("model", "data", "objective", "sampler", "estimator", "optimizer", "trainer", "logger"),
)
ENDLESS = {("trainer.max_steps", "int63"), ("trainer.max_steps", "large"), ("trainer.max_steps", "int70")}
"""A run of as many steps is long, not hostile: it is not resumed."""


def _values() -> Iterator[Case]:
    names = list(ODD)
    for k, key in enumerate(VALUE_KEYS):
        top = "." not in key
        some = {names[(k * 5 + j * 3) % len(names)] for j in range(3 if top else 5)}
        if key.startswith(("trainer.", "optimizer.")):
            some |= {"nan", "list"}
        for name in sorted(some):
            verbs = ("sample",) if (key, name) in ENDLESS else ("sample", "again")
            if key.startswith("estimator"):
                verbs = ("eval", "again")
            yield Case(f"values/{key}-{name}", setting(key, ODD[name]), verbs)
    for value in (
        "cuda",
        "cuda:99",
        "meta",
        "mps",
        "xla",
        "privateuseone",
        "hpu:0",
        "cpu:9999999",
        "evil:0",
        "CPU ",
        "vulkan",
    ):
        yield Case(f"values/device={word(value)}", setting("device", value), ("again", "sample", "load"))
    for key, value in {
        "model.net.vector.hidden": [10**12],
        "model.net.vector.hidden ": [10**18, 10**18],
        "data.train": 10**15,
        "data.train ": 2**63,
        "data.test": 10**15,
        "data.which": "__class__",
        "data.transform": "__import__",
        "data.dequantization": "evil",
        "data.shape": [2**31, 2**31],
        "sampler.steps": 10**18,
        "sampler.temperature": "x",
        "trainer.eval_batch_size": 2**62,
        "trainer.workers": -1,
        "optimizer.betas": [2, -1],
        "optimizer.betas ": ["x", "y"],
        "optimizer.lr": 1e300,
        "optimizer.lr ": "1e-3",
        "optimizer.warmup_steps": 2**63,
        "objective.sampler": {"_target_": "os.system"},
        "model.net.vector.activation": "system",
        "model.net.vector.activation ": "__import__",
        "model.net.vector.activation  ": "os.system",
    }.items():
        verbs = ("eval", "again") if key.strip() in ("data.test", "trainer.eval_batch_size") else ("sample", "again")
        yield Case(f"values/{key.strip()}={word(value)}", setting(key.strip(), value), verbs)
    for missing in (*SECTIONS, "seed", "device", "n"):
        drop = text(lambda t, key=missing: yaml.safe_dump({k: v for k, v in yaml.safe_load(t).items() if k != key}))
        yield Case(f"values/without-{missing}", drop, ("sample", "again"))
    for wrong in (
        *("gencli.models.latent.vae.VAE", "gencli.models.generator.Generator", "gencli.models.energy.ebm.EBM"),
        *("gencli.models.autoregressive.transformer.Transformer", "gencli.models.diffusion.cnf.CNF"),
    ):
        yield Case(f"values/other-model-{wrong}", setting("model._target_", wrong))


CHOICES = {
    "up": "../../x",
    "up-within": "x/../../../../outside/y",
    "absolute": "/etc/passwd",
    "dots": "..",
    "dot": ".",
    "newline": "a\nb",
    "return": "a\rb",
    "escape": ESCAPE,
    "markup": MARKUP,
    "closing": "[/]",
    "dash": "-x",
    "dashes": "--config-dir=/x",
    "command": "$(touch ran)",
    "semicolon": ";touch ran",
    "long": "a" * 5000,
    "name-too-long": "a" * 300,
    "empty": "",
    "percent": "%s%n",
    "nul": "a\0b",
    "number": 1,
    "list": ["a"],
    "tilde": "~root",
    "unicode": "ａ",
    "colon": "C:x",
    "backslash": "..\\..\\x",
    "equals": "a=b,c",
}


def _choices() -> Iterator[Case]:
    for k, (name, value) in enumerate(CHOICES.items()):
        yield Case(f"choices/sampler-{name}", setting("choices.sampler", value), ("sample", "resume"))
        yield Case(f"choices/estimator-{name}", setting("choices.estimator", value), ("eval", "resume"))
        key = ("model", "data", "objective", "logger")[k % 4]
        yield Case(f"choices/{key}-{name}", setting(f"choices.{key}", value), ("sample", "again"))
    for key in (
        "hydra/launcher",
        "override hydra/job_logging",
        "a.b",
        "net@model.net",
        "x" * 3000,
        ESCAPE,
        "__class__",
    ):
        yield Case(f"choices/key-{word(key)}", merging("choices", {key: "x"}), ("sample", "again"))


def cases() -> Iterator[Case]:
    yield from _values()
    yield from _choices()
