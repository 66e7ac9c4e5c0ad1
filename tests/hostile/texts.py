"""Texts with a meaning: interpolations, and all by which YAML means more than it says."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable, Iterator

import yaml

from hostile.base import (
    ALL,
    ESCAPE,
    MARKUP,
    Case,
    both,
    device,
    evil_package,
    fifo,
    folder,
    merging,
    setting,
    sparse,
    text,
    verbs_of,
)
from hostile.defaults import word

INTERPOLATIONS = (
    "${oc.env:HOSTILE_SECRET}",
    "${oc.create:{_target_:os.system,command:touch ran}}",
    "${oc.decode:'{a: 1}'}",
    '${eval:\'__import__("os").system("touch ran")\'}',
    "${hydra:runtime.cwd}",
    "${now:%Y}",
    "${oc.select:hydra.job.name}",
    "${.x}",
    "${oc.env:HOSTILE_SECRET,${oc.env:HOME}}",
    "$HOSTILE_SECRET",
    "%(HOSTILE_SECRET)s",
    "{0.__class__}",
    "???",
    "${",
    "`touch ran`",
    ESCAPE,
    MARKUP,
)
TEXT_KEYS = (
    "data.which",
    "device",
    "model.net.vector.activation",
    "optimizer.name",
    "choices.model",
    "sampler.x",
    "run_dir",
)


def _interpolations() -> Iterator[Case]:
    for k, value in enumerate(INTERPOLATIONS):
        for key in {"model._target_", TEXT_KEYS[k % len(TEXT_KEYS)], TEXT_KEYS[(k + 2) % len(TEXT_KEYS)], "data.path"}:
            verbs = verbs_of(key, k) if key not in ("device", "run_dir") else ("again", "sample")
            yield Case(f"interpolation/{key}-{k}-{word(value)}", setting(key, value), verbs)
    for section in ("model", "data", "sampler", "estimator", "trainer", "optimizer", "logger", "choices", "seed"):
        value = "${oc.env:HOSTILE_SECRET}"
        yield Case(f"interpolation/whole-{section}", setting(section, value), verbs_of(section))
    yield Case("interpolation/key", merging("model", {"${oc.env:HOSTILE_SECRET}": 1}))


def _nested_yaml(depth: int, form: str) -> str:
    return "x: " + ("[" * depth + "]" * depth if form == "flow" else "{a: " * depth + "1" + "}" * depth) + "\n"


def _laughs() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for here, there in itertools.pairwise("abcdefghi"):
        lines.append(f"{there}: &{there} [{', '.join([f'*{here}'] * 9)}]")
    return "\n".join(lines) + "\n"


YAML: dict[str, Callable[[str], str | bytes]] = {
    "apply": lambda t: t + "evil: !!python/object/apply:os.system ['touch ran']\n",
    "apply-in-model": lambda t: t.replace("seed: 0", "seed: !!python/object/apply:os.system ['touch ran']", 1),
    "new": lambda t: t + "x: !!python/object/new:os.system ['touch ran']\n",
    "name": lambda t: t + "x: !!python/name:os.system\n",
    "module": lambda t: t + "x: !!python/module:evil\n",
    "tuple": lambda t: t.replace("seed: 0", "seed: !!python/tuple [0]", 1),
    "full-tag": lambda t: t + 'x: !<tag:yaml.org,2002:python/object/apply:os.system> ["touch ran"]\n',
    "tag-directive": lambda t: (
        "%TAG ! tag:yaml.org,2002:python/\n---\n" + t + "x: !object/apply:os.system ['touch ran']\n"
    ),
    "binary": lambda t: t.replace("device: cpu", "device: !!binary Y3B1", 1),
    "set": lambda t: t.replace("trust: []", "trust: !!set {evil}", 1),
    "omap": lambda t: t + "choices: !!omap [{a: b}]\n",
    "timestamp": lambda t: t.replace("device: cpu", "device: 2001-12-14t21:59:43.10-05:00", 1),
    "date": lambda t: t.replace("device: cpu", "device: 2001-99-99", 1),
    "timestamp-tag": lambda t: t.replace("device: cpu", "device: !!timestamp 2001-12-14", 1),
    "str-tag": lambda t: t.replace("device: cpu", "device: !!str cpu", 1),
    "include": lambda t: t + "x: !include /etc/hostname\n",
    "env": lambda t: t + "x: !ENV ${HOSTILE_SECRET}\n",
    "anchor": lambda t: t.replace("device: cpu", "device: &d cpu", 1),
    "alias": lambda t: t.replace("device: cpu", "device: &d cpu", 1) + "x: *d\n",
    "alias-of-itself": lambda t: t + "x: &x [*x]\n",
    "laughs": lambda t: t + _laughs(),
    "merge": lambda t: t + "<<: {model: {_target_: os.system}}\n",
    "merge-alias": lambda t: "m: &m {_target_: os.system}\n" + t + "n: {<<: *m}\n",
    "duplicate": lambda t: t + "model: {_target_: os.system, command: touch ran}\n",
    "duplicate-within": lambda t: t.replace("  which: moons", "  which: moons\n  which: '../x'", 1),
    "documents": lambda t: t + "---\nmodel: {_target_: os.system}\n",
    "document-first": lambda t: "model: {_target_: os.system}\n---\n" + t,
    "end": lambda t: t + "...\nx: 1\n",
    "directive": lambda t: "%YAML 9.9\n---\n" + t,
    "deep-flow": lambda t: t + _nested_yaml(20_000, "flow"),
    "deep-map": lambda t: t + _nested_yaml(5_000, "map"),
    "deep-block": lambda t: t + "".join(" " * k + "- \n" for k in range(1000)),
    "many": lambda t: t + "x: [" + "1, " * 200_000 + "1]\n",
    "many-keys": lambda t: t + "x: {" + ", ".join(f"k{i}: 1" for i in range(60_000)) + "}\n",
    "large": lambda t: t + "# " + "x" * 5_000_000,
    "long-text": lambda t: t.replace("device: cpu", "device: " + "x" * 500_000, 1),
    "latin": lambda t: t.encode() + b"x: '\xff\xfe\xe9'\n",
    "utf16": lambda t: t.encode("utf-16"),
    "nul": lambda t: t.encode() + b"x: a\0b\n",
    "nul-escape": lambda t: t.replace("device: cpu", 'device: "cpu\\0"', 1),
    "bom": lambda t: b"\xef\xbb\xbf" + t.encode(),
    "surrogate": lambda t: t.replace("device: cpu", 'device: "\\ud800"', 1),
    "escape": lambda t: t.replace("device: cpu", 'device: "\\e]0;pwn\\a"', 1),
    "escape-raw": lambda t: t + f"x: {ESCAPE}\n",
    "bidi": lambda t: t.replace("device: cpu", 'device: "\\u202ecpu"', 1),
    "controls": lambda t: t + "x: \x08\x08\x7f\n",
    "tabs": lambda t: t + "\tx: 1\n",
    "crlf": lambda t: t.replace("\n", "\r\n"),
    "empty": lambda t: "",
    "null": lambda t: "null\n",
    "list": lambda t: "- model\n- data\n",
    "scalar": lambda t: "model\n",
    "json": lambda t: json.dumps(yaml.safe_load(t)),
    "int-key": lambda t: t + "1: 2\n",
    "null-key": lambda t: t + "~: 2\n",
    "list-key": lambda t: t + "? [a, b]\n: 2\n",
    "map-key": lambda t: t + "? {a: b}\n: 2\n",
    "bool-key": lambda t: t.replace("  which: moons", "  yes: moons", 1),
    "huge-int": lambda t: t.replace("seed: 0", "seed: " + "9" * 4000, 1),
    "huge-int-more": lambda t: t.replace("seed: 0", "seed: " + "9" * 10_000, 1),
    "hex-int": lambda t: t.replace("seed: 0", "seed: 0x" + "f" * 5000, 1),
    "sexagesimal": lambda t: t.replace("seed: 0", "seed: " + ":".join(["59"] * 2000), 1),
    "float-huge": lambda t: t.replace("seed: 0", "seed: 1.0e+999", 1),
    "nan": lambda t: t.replace("seed: 0", "seed: .nan", 1),
    "unclosed": lambda t: t + "x: [1, 2\n",
    "pickle": lambda t: pickle.dumps({"model": 1}),
    "zip": lambda t: b"PK\x03\x04" + t.encode(),
    "python": lambda t: "import os; os.system('touch ran')\n",
}


def _yaml() -> Iterator[Case]:
    for name, change in YAML.items():
        verbs = ("sample", "again", "compare") if name != "apply" else (*ALL, "load", "compare", "complete")
        yield Case(f"yaml/{name}", both(lambda place: evil_package(place.work, place.mark), text(change)), verbs)
    for name, change in {
        "sparse": sparse("config.yaml"),
        "fifo": fifo("config.yaml"),
        "device": device("config.yaml"),
        "folder": folder("config.yaml"),
        "gone": lambda place: (place.run / "config.yaml").unlink(),
        "unreadable": lambda place: (place.run / "config.yaml").chmod(0),
        "link-to-itself": lambda place: (
            (place.run / "config.yaml").unlink(),
            (place.run / "config.yaml").symlink_to("config.yaml"),
        )[0],
    }.items():
        yield Case(f"yaml/file-{name}", change, ("sample", "resume", "compare", "load"))


def cases() -> Iterator[Case]:
    yield from _interpolations()
    yield from _yaml()
