"""A model card of a run: Markdown under the YAML head that Hugging Face's hub reads (``model-index``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gencli.config import stored
from gencli.core.bounds import ORDER
from gencli.core.errors import UsageError, quoted
from gencli.report import words
from gencli.report.collect import own_nll, results
from gencli.report.forms import escaped

_TOLD = ("model", "data", "objective")
_NLL_KEYS = (
    *("bound", "se_examples", "se_estimator", "se_shared", "se_lower_limits", "se_blocks", "estimator", "bits_per_dim"),
    *("n_examples", "n_split", "n_seen", "n_nonfinite", "flags"),
)
"""What a reader of the head must know: it is copied without the text below it."""
_SAMPLE_KEYS = ("se", "better", "n_samples", "n_reference")


def card(run: Path) -> str:
    """The card of a run, from its records alone: nothing of it is built or opened.

    Raises:
        UsageError: the run has no record on the test split.
    """
    config, info = stored.config(run), stored.info(run)
    rows, problems = results(run, "test")
    own = [row.record for row in rows if row.own]
    if not own:
        raise UsageError(f"{run}: no record on split=test to make a card of: {'; '.join(problems)}")
    known = own_nll(run, "test")

    def place(record: Mapping[str, Any]) -> tuple[bool, bool, int]:
        bound = record.get("bound")
        by_it = known is not None and record.get("estimator") == known.record.get("estimator")
        return record.get("metric") != "nll", not by_it, ORDER.index(bound) if bound in ORDER else len(ORDER)

    own.sort(key=place)  # the number by which the run is known goes first
    choices = config["choices"]
    name = f"{choices.get('model')}-{choices.get('data')}"
    head = yaml.safe_dump(_head(name, choices, own), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{_body(name, run, config, info, own)}"


def _head(name: str, choices: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    data = str(choices.get("data"))
    found = [
        {
            "task": {"type": "density-estimation", "name": "Density estimation"},
            "dataset": {
                "name": quoted(str((record.get("protocol") or {}).get("data") or data)),
                "type": data,
                "split": record.get("split"),
                "revision": record.get("split_sha256"),
            },
            "metrics": [_metric(record)],
        }
        for record in records
    ]
    return {
        "library_name": "gencli",
        "tags": ["generative-model", "density-estimation", str(choices.get("model"))],
        "model-index": [{"name": name, "results": found}],
    }


def _metric(record: Mapping[str, Any]) -> dict[str, Any]:
    """One metric as model-index has it; what it is to the true value stands in its name and arguments."""
    nll = record.get("metric") == "nll"
    bound = f", {record.get('bound')}" if nll else ""
    unit = f" ({record.get('unit')}{bound})" if nll else ""
    args = {key: record[key] for key in (_NLL_KEYS if nll else _SAMPLE_KEYS) if record.get(key) not in (None, [])}
    return {
        "type": record.get("metric"),
        "name": f"{record.get('metric')}{unit}",
        "value": record.get("value"),
        "args": args | {"protocol": record.get("protocol")},
    }


def _body(
    name: str, run: Path, config: Mapping[str, Any], info: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> str:
    first = records[0]
    choices = config["choices"]
    lines = [f"# {escaped(name)}", ""]
    told = (f"A `{choices.get(key)}`" if key == "model" else f"`{choices.get(key)}`" for key in _TOLD)
    model, data, objective = told
    parameters = info.get("parameters") or "an unknown number of"
    lines += [f"{model} trained on {data} with objective {objective} by gencli, {parameters} parameters.", ""]
    lines += ["## Held-out data", ""]
    for record in records:
        title = "NLL" if record.get("metric") == "nll" else str(record.get("metric"))
        lines.append(f"- **{escaped(title)}: {escaped(words.number(record))}**")
        if record.get("metric") == "nll":
            lines.append(f"  - It is {words.BOUNDS.get(str(record.get('bound')), 'unknown')}.")
            lines += [f"  - Standard error over {escaped(error)}." for error in words.errors(record)]
            lines += [f"  - Note: {escaped(str(flag))}." for flag in record.get("flags") or []]
    lines += ["", "| what the number depends on | |", "| --- | --- |"]
    lines += [f"| {escaped(key)} | {escaped(value)} |" for key, value in words.protocol(first)]
    if first.get("ledger"):
        lines += ["", "| term | nats |", "| --- | ---: |"]
        lines += [
            f"| {escaped(str(t.get('term')))} | {t.get('nats')} |" for t in first["ledger"] if isinstance(t, dict)
        ]
    versions = ", ".join(f"{key} {value}" for key, value in (info.get("versions") or {}).items())
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "import gencli",
        "",
        f'run = gencli.load("{escaped(run.name, code=True)}")  # this folder',
        "x = run.sample(16, seed=0)",
        "```",
        "",
        "Opening it runs no code of the folder: weights are safetensors, the config is plain data.",
        "",
        "## Training",
        "",
        f"Seed {info.get('seed')}, {(info.get('progress') or {}).get('step')} steps, "
        f"{info.get('wall_seconds')} seconds on {escaped(str(info.get('device')))}; {escaped(versions)}.",
        "",
    ]
    return "\n".join(lines)
