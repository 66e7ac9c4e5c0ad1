"""Run folders of strangers: what a hostile one may hold, case by case.

A case changes a fresh copy of a good run, and perhaps what lies around it. ``forkserver`` opens it with every verb and
says what went wrong. Cases are data, so that one list serves the tests and scripts/campaign.
"""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

SECRET = "correct-horse-battery-staple"
"""In the environment of every command: a config that is interpolated shows it."""

ESCAPE = "\x1b]0;pwn\x07"
MARKUP = "[link=file:///x]click[/link][/]"
HUGE = 10**400


@dataclass(frozen=True)
class Place:
    """Where a case happens: everything below ``scratch`` is its own.

    Args:
        scratch: the whole.
        work: the working directory of the command.
        run: the run folder, below ``work/outputs``.
        outside: a folder that is none of the command's business.
        path: a folder on Python's path.
        good: the good runs, by name; to be read only.
    """

    scratch: Path
    work: Path
    run: Path
    outside: Path
    path: Path
    good: Path

    @property
    def mark(self) -> str:
        """The file that code of the stranger would write."""
        return str(self.scratch / "ran")


@dataclass(frozen=True)
class Case:
    """One hostile run.

    Args:
        name: ``group/what``, unique.
        change: makes the copy of a good run hostile.
        verbs: what to try, see ``forkserver.COMMANDS``.
        base: the good run that is copied.
        extra: further words of train, sample and eval.
        name_of_run: the last part of the run's path, if it matters.
    """

    name: str
    change: Callable[[Place], None]
    verbs: tuple[str, ...] = ("sample", "eval", "resume")
    base: str = "flow"
    extra: tuple[str, ...] = ()
    name_of_run: str = "run"

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]


ALL = ("sample", "eval", "resume")
OPENING = ("sample", "eval", "resume", "load")
READING = ("compare", "compare-json", "compare-csv", "load")
SECTIONS = ("model", "data", "objective", "sampler", "estimator", "optimizer", "trainer", "logger", "choices")
VERBS = {
    "sampler": ("sample", "resume"),
    "estimator": ("eval", "resume"),
    "optimizer": ("sample", "again"),
    "trainer": ("sample", "again"),
    "logger": ("eval", "again"),
    "choices": ("eval", "again"),
}
"""Verbs that read a section; all of them the others."""


def _verbs(section: str, turn: int | None = None) -> tuple[str, ...]:
    """The verbs that read a section; of three of them two in turn, where there are many cases of one kind."""
    found = VERBS.get(section.partition(".")[0], ALL)
    return found if turn is None or len(found) < 3 else tuple(v for k, v in enumerate(found) if k != turn % 3)


# --- tools -----------------------------------------------------------------------------------------------------------


def edit(place: Place, path: str, value: object, folder: Path | None = None) -> None:
    """Set a dotted key of config.yaml; "" is all of it."""
    file = (folder or place.run) / "config.yaml"
    config = yaml.safe_load(file.read_text())
    if path:
        *parents, last = path.split(".")
        node = config
        for key in parents:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[last] = value
    else:
        config = value
    file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=False))


def merge(place: Place, section: str, values: dict) -> None:
    """Add keys to a section of config.yaml ("" is the top level)."""
    file = place.run / "config.yaml"
    config = yaml.safe_load(file.read_text())
    node = config
    for key in section.split(".") if section else ():
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    own = dict(node)
    node.clear()
    node.update({**values, **own, **values})  # first, where Hydra looks for a defaults list
    file.write_text(yaml.safe_dump(config, sort_keys=False))


def setting(path: str, value: object) -> Callable[[Place], None]:
    return lambda place: edit(place, path, value)


def merging(section: str, values: dict) -> Callable[[Place], None]:
    return lambda place: merge(place, section, values)


def both(*changes: Callable[[Place], None]) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        for each in changes:
            each(place)

    return change


def text(function: Callable[[str], str | bytes]) -> Callable[[Place], None]:
    """Change config.yaml as a text."""

    def change(place: Place) -> None:
        file = place.run / "config.yaml"
        found = function(file.read_text())
        file.write_bytes(found if isinstance(found, bytes) else found.encode("utf-8", "surrogatepass"))

    return change


def of_json(name: str, path: Sequence[str | int], value: object) -> Callable[[Place], None]:
    """Set a key of a JSON file of the run; values that are no JSON are written as Python does."""

    def change(place: Place) -> None:
        file = place.run / name
        content = json.loads(file.read_text())
        node = content
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        file.write_text(json.dumps(content))

    return change


def content(name: str, data: bytes | str | Callable[[Place], bytes]) -> Callable[[Place], None]:
    """Replace a file of the run."""

    def change(place: Place) -> None:
        found = data(place) if callable(data) else data
        (place.run / name).parent.mkdir(exist_ok=True, parents=True)
        (place.run / name).write_bytes(found if isinstance(found, bytes) else found.encode("utf-8", "surrogatepass"))

    return change


def sparse(name: str, size: int = 40 * 2**30) -> Callable[[Place], None]:
    """A file that is large and holds nothing: it takes no room on the disk."""

    def change(place: Place) -> None:
        with (place.run / name).open("wb") as file:
            file.truncate(size)

    return change


def fifo(name: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        (place.run / name).unlink(missing_ok=True)
        os.mkfifo(place.run / name)

    return change


def device(name: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        (place.run / name).unlink(missing_ok=True)
        (place.run / name).symlink_to("/dev/zero")

    return change


def folder(name: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        (place.run / name).unlink(missing_ok=True)
        (place.run / name).mkdir()

    return change


def evil_package(where: Path, mark: str, name: str = "evil") -> None:
    """A package whose import is seen."""
    (where / name).mkdir(parents=True)
    (where / name / "__init__.py").write_text(
        f"open({mark!r}, 'w').close()\nopen('ran', 'w').close()\nclass Model: pass\nclass Callback: pass\n"
    )


class Payload:
    """A pickle of it runs a command where it is opened."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def other_run(place: Place, name: str, base: str = "flow") -> Path:
    """Another run of the stranger, beside the first."""
    found = place.run.parent / name
    shutil.copytree(place.good / base, found)
    return found


# --- Hydra's defaults lists ------------------------------------------------------------------------------------------

COMMAND = {"_target_": "torch.utils.collect_env.run", "command": "touch ran"}

DEFAULTS: dict[str, object] = {
    "callback": [{"/logger@_global_.hydra.callbacks.evil": "from_run"}, "_self_"],
    "hidden": [{"/estimator@_global_.hydra.callbacks.evil": "from_run"}, "_self_"],
    "deeper": ["_self_", {"optional /objective@_global_.hydra.callbacks.evil": "from_run"}],
    "launcher": ["_self_", {"override /hydra/launcher": "joblib"}],
    "sweeper": [{"/logger@_global_.hydra.sweeper": "from_run"}, {"override hydra/sweeper": "evil"}],
    "job_logging": [{"override hydra/job_logging": "default"}, {"override /hydra/hydra_logging": "colorlog"}],
    "global": [{"/data@_global_": "from_run"}, {"optional /model@_global_.hydra.run": "from_run"}],
    "text": "_self_",
    "plain": ["/hydra/callbacks/evil", "evil"],
}
"""Shapes of a key ``defaults``; the first three make a section a callback of Hydra, which runs a command."""

CARRIERS = {"callback": "logger", "hidden": "estimator", "deeper": "objective"}
"""The section that holds the command."""


def _defaults() -> Iterator[Case]:
    for where, (shape, entries) in itertools.product([*SECTIONS, "", "model.net"], DEFAULTS.items()):
        if shape in ("text", "plain") and where in ("optimizer", "choices", "objective"):
            continue
        attack, carrier = merging(where, {"defaults": entries}), CARRIERS.get(shape, "logger")
        if where != carrier:
            attack = both(attack, setting(carrier, COMMAND))
        yield Case(f"defaults/{where or 'top'}-{shape}", attack, _verbs(where) if where else ALL)
    for section, base in (
        ("objective.noise", "tilted"),
        ("estimator.base", "tilted"),
        ("objective.teacher", "student"),
    ):
        attack = both(
            merging(section, {"defaults": DEFAULTS["callback"], "_target_": "evil.Model"}), setting("logger", COMMAND)
        )
        yield Case(f"defaults/{section}", attack, ("resume", "eval"), base)
    package = text(lambda t: "# @package _global_.hydra.callbacks.evil\n" + t)
    yield Case("defaults/package-comment", package)
    for key, value in {
        "hydra": {"callbacks": {"x": {"_target_": "evil.Callback"}}, "searchpath": ["pkg://evil", "file:///tmp"]},
        "hydra/launcher": "joblib",
        "override hydra/job_logging": "default",
        "searchpath": ["pkg://evil"],
        "experiment": "evil",
        "hydra.run.dir": "/tmp/evil",
        "schema/of_run@_global_": "evil",
        "_self_": None,
        "metrics": {"evil": {"_target_": "evil.Model"}},
        "picture": {"_target_": "evil.Model"},
        "resume": "/etc",
        "checkpoint": "/dev/zero",
        "weights": "ema",
    }.items():
        yield Case(f"defaults/top-key-{_word(key)}", merging("", {key: value}))


def _word(text_: object) -> str:
    """A text as a part of a case's name."""
    return "".join(c if c.isalnum() else "_" for c in str(text_)).strip("_")[:40] or "empty"


# --- classes ---------------------------------------------------------------------------------------------------------

DANGEROUS: dict[str, dict] = {
    "os.system": {"command": "touch ran"},
    "posix.system": {"command": "touch ran"},
    "subprocess.run": {"args": ["touch", "ran"]},
    "subprocess.Popen": {"args": ["touch", "ran"]},
    "subprocess.check_output": {"args": "touch ran", "shell": True},
    "builtins.exec": {"_args_": ["open('ran', 'w')"]},
    "builtins.eval": {"_args_": ["open('ran', 'w')"]},
    "builtins.open": {"file": "ran", "mode": "w"},
    "torch.hub.load": {"repo_or_dir": "a/b", "model": "c"},
    "torch.load": {"f": "payload.pt", "weights_only": False},
    "torch.utils.collect_env.run": {"command": "touch ran"},
    "torch.utils.cpp_extension.load_inline": {"name": "x", "cpp_sources": "int x;"},
    "torch.package.PackageImporter": {"file_or_buffer": "payload.pt"},
    "torch.jit.load": {"f": "payload.pt"},
    "pandas.read_pickle": {"filepath_or_buffer": "payload.pkl"},
    "pandas.eval": {"expr": "@pd.io.common.os.system('touch ran')"},
    "joblib.load": {"filename": "payload.pkl"},
    "pickle.loads": {"_args_": ["cos\nsystem\n(S'touch ran'\ntR."]},
    "pickle.load": {"file": "payload.pkl"},
    "numpy.load": {"file": "payload.npy", "allow_pickle": True},
    "webbrowser.open": {"url": "http://127.0.0.1:9/"},
    "urllib.request.urlopen": {"url": "http://127.0.0.1:9/"},
    "urllib.request.urlretrieve": {"url": "file:///etc/hostname", "filename": "ran"},
    "runpy.run_path": {"path_name": "payload.py"},
    "importlib.import_module": {"name": "evil"},
    "shutil.rmtree": {"path": "."},
    "shutil.copy": {"src": "/etc/hostname", "dst": "ran"},
    "os.unlink": {"path": "outputs"},
    "logging.config.dictConfig": {"config": {"version": 1, "handlers": {"x": {"class": "logging.FileHandler"}}}},
    "logging.FileHandler": {"filename": "ran"},
    "ctypes.CDLL": {"name": "./payload.so"},
    "code.interact": {},
    "pty.spawn": {"argv": ["touch", "ran"]},
    "timeit.timeit": {"stmt": "open('ran', 'w')"},
    "hydra.utils.instantiate": {"config": {"_target_": "os.system", "_args_": ["touch ran"]}},
    "hydra.utils.call": {"config": {"_target_": "os.system", "command": "touch ran"}},
    "yaml.unsafe_load": {"stream": "!!python/object/apply:os.system ['touch ran']"},
    "evil.Model": {},
    "evil": {},
    "yaml": {},
}
ROUND = ("data", "objective", "sampler", "estimator", "model.net", "optimizer", "trainer", "logger", "choices")


def payloads(place: Place) -> None:
    """What dangerous callables would open, in the working directory."""
    evil_package(place.work, place.mark)
    (place.work / "payload.py").write_text("open('ran', 'w').close()\n")
    for name in ("payload.pkl", "payload.pt"):
        (place.work / name).write_bytes(pickle.dumps(Payload(place.mark)))
    with (place.work / "payload.npy").open("wb") as file:
        np.save(file, np.array([Payload(place.mark)], dtype=object), allow_pickle=True)


def _targets() -> Iterator[Case]:
    for k, (target, options) in enumerate(DANGEROUS.items()):
        node = {"_target_": target, **options}
        yield Case(f"target/model-{target}", both(payloads, setting("model", node)), (*_verbs("model", k), "load"))
    for k, (target, options) in enumerate(DANGEROUS.items()):
        node = {"_target_": target, **options}
        section = ROUND[k % len(ROUND)]
        yield Case(f"target/{section}-{target}", both(payloads, setting(section, node)), _verbs(section, k))
    for section, base in (
        ("model.run", "tilted"),
        ("model.net", "tilted"),
        ("objective.noise", "tilted"),
        ("estimator.base", "tilted"),
        ("objective.teacher", "student"),
        ("model.path", "field"),
        ("model.net.vector", "flow"),
        ("data.which", "flow"),
        ("sampler.classes", "flow"),
        ("trainer.precision", "flow"),
        ("choices.model", "flow"),
    ):
        for target in ("os.system", "evil.Model", "builtins.exec"):
            node = {"_target_": target, **DANGEROUS[target]}
            yield Case(f"target/{section}-{target}", both(payloads, setting(section, node)), _verbs(section), base)


OWN = {
    "gencli.run.opened.Trained": {"path": "x", "trust": ["evil"]},
    "gencli.run.opened.opened": {"path": "x", "trust": ["evil"]},
    "gencli.run.run.Run": {"path": ".", "trust": ["evil"]},
    "gencli.run.folder.subprocess.run": {"args": ["touch", "ran"]},
    "gencli.run.build.component": {"node": {"_target_": "evil.Model"}, "trust": ["evil"]},
    "gencli.run.build.importlib.import_module": {"name": "evil"},
    "gencli.run.assembly.torch.hub.load": {"repo_or_dir": "a/b", "model": "c"},
    "gencli.run.assembly.torch.load": {"f": "payload.pt"},
    "gencli.run.folder.subprocess.Popen": {"args": ["touch", "ran"]},
    "gencli.core.files.write_whole": {"path": "ran", "data": "x"},
    "gencli.core.files.os.system": {"command": "touch ran"},
    "gencli.cli.main": {"argv": ["train"]},
    "gencli.cli.main.Task": {"verb": "train", "config_dirs": [], "run_config": None},
    "gencli.__main__.sys.exit": {"_args_": [0]},
    "gencli.data.sets.cifar10.pickle.loads": {"_args_": ["x"]},
    "gencli.data.root.fetch": {"path": "ran", "expected_md5": "x", "urls": ["file:///etc/hostname"]},
    "gencli.core.torchvision_compat.torchvision": {"name": "evil"},
    "gencli.models.base.Model": {},
    "gencli.interfaces.nn.Module": {},
    "gencli.samplers.direct.Direct": {},
    "gencli.cli.train.train": {"cfg": {}},
    "gencli.cli.completion.glob.glob": {"pathname": "/*"},
    "gencli.configs.data": {},
    "gencli.nothing.here": {},
    "gencli.models.flows.coupling.__import__": {"name": "evil"},
    "gencli.models.__builtins__.exec": {"_args_": ["open('ran', 'w')"]},
    "gencli._": {},
    "gencli.evil.Model": {},
    "genclii.Model": {},
}


def _own_targets() -> Iterator[Case]:
    for k, (target, options) in enumerate(OWN.items()):
        for section in ("model", ("sampler", "objective", "model.net", "estimator", "data")[k % 5]):
            node = {"_target_": target, **options}
            yield Case(f"own/{section}-{target}", both(payloads, setting(section, node)), _verbs(section, k))
    for target in (
        "a b.C",
        "..",
        ".x.Y",
        "os.system\n",
        "gencli..x",
        "ｇｅｎｃｌｉ.x.Y",
        "gencli.\u202e.x",
        "-m.evil",
        "a." * 5000,
    ):
        yield Case(f"own/odd-{_word(target)}", setting("model._target_", target), ("sample", "compare", "resume"))
    for k, value in enumerate([[], {}, 1, None, True, ["os.system"], {"_target_": "os.system"}]):
        yield Case(f"own/no_text-{k}-{_word(value)}", setting("model._target_", value), ("sample", "resume"))


KEYWORDS: dict[str, object] = {
    "_partial_": True,
    "_args_": ["touch ran"],
    "_convert_": "all",
    "_recursive_": False,
    "_group_": "evil",
    "_package_": "_global_.hydra",
    "_name_": "evil",
    "_content_": {"_target_": "evil.Model"},
    "_here_": "evil",
    "__class__": "evil",
    "__init__": {"_target_": "evil.Model"},
    "__dict__": {"x": 1},
    "self": 1,
    "spec": {"_target_": "evil.Model"},
    "run": "latest",
    "teacher": "latest",
    "trust": ["evil"],
    "kwargs": {"x": 1},
    "": 1,
    "a.b": 1,
    "a@b": 1,
    ESCAPE: 1,
    MARKUP: 1,
}


def _keywords() -> Iterator[Case]:
    places = ("model", "data", "objective", "sampler", "estimator", "model.net", "optimizer", "trainer", "logger")
    for k, (key, value) in enumerate(KEYWORDS.items()):
        for where in {"model", "data", places[2 + k % (len(places) - 2)], places[2 + (k + 3) % (len(places) - 2)]}:
            attack = both(payloads, merging(where, {key: value}))
            yield Case(f"keyword/{where}-{k}-{_word(key)}", attack, _verbs(where, k))


# --- texts with a meaning --------------------------------------------------------------------------------------------

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
            verbs = _verbs(key, k) if key not in ("device", "run_dir") else ("again", "sample")
            yield Case(f"interpolation/{key}-{k}-{_word(value)}", setting(key, value), verbs)
    for section in ("model", "data", "sampler", "estimator", "trainer", "optimizer", "logger", "choices", "seed"):
        value = "${oc.env:HOSTILE_SECRET}"
        yield Case(f"interpolation/whole-{section}", setting(section, value), _verbs(section))
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


# --- trust -----------------------------------------------------------------------------------------------------------


def _on_path(place: Place) -> None:
    evil_package(place.path, place.mark)


def _in_work(place: Place) -> None:
    evil_package(place.work, place.mark)


def _beside_run(place: Place) -> None:
    evil_package(place.run, place.mark)


def _trust() -> Iterator[Case]:
    node = {"_target_": "evil.Model"}
    for where, make in {"path": _on_path, "work": _in_work, "run": _beside_run}.items():
        for section in ("model", "data", "sampler", "model.net"):
            attack = both(make, setting("trust", ["evil"]), setting(section, node))
            yield Case(f"trust/{section}-{where}", attack, (*_verbs(section), "load"))
        for section, base in (("objective.noise", "tilted"), ("estimator.base", "tilted")):
            attack = both(make, setting("trust", ["evil", "gencli", "os"]), setting(section, node))
            yield Case(f"trust/{section}-{where}", attack, ("eval", "resume"), base)
        attack = both(make, merging("model", {"trust": ["evil"]}), setting("model._target_", "evil.Model"))
        yield Case(f"trust/within-{where}", attack)
    for k, value in enumerate(["evil", ["evil"], [["evil"]], {"evil": 1}, [1], None, ["*"], ["os"], [""], True]):
        attack = both(_in_work, setting("trust", value), setting("sampler", node))
        yield Case(f"trust/value-{k}-{_word(value)}", attack, ("sample", "again"))


# --- runs within runs ------------------------------------------------------------------------------------------------

PATHS: dict[str, Callable[[Place], object]] = {
    "latest": lambda place: "latest",
    "itself": lambda place: str(place.run),
    "zero": lambda place: "/dev/zero",
    "stdin": lambda place: "/dev/stdin",
    "mem": lambda place: "/proc/self/mem",
    "root": lambda place: "/",
    "etc": lambda place: "/etc",
    "empty": lambda place: "",
    "dot": lambda place: ".",
    "up": lambda place: "../../../..",
    "home": lambda place: "~",
    "nobody": lambda place: "~nobody-of-this-name/x",
    "url": lambda place: "http://127.0.0.1:9/run",
    "file-url": lambda place: f"file://{place.run}",
    "smb": lambda place: "//127.0.0.1/share/run",
    "long": lambda place: "x" * 5000,
    "long-path": lambda place: "x/" * 3000,
    "nul": lambda place: f"{place.run}\0",
    "newline": lambda place: "a\nb\nc",
    "escape": lambda place: ESCAPE,
    "number": lambda place: 1,
    "list": lambda place: [str(place.run)],
    "mapping": lambda place: {"_target_": "gencli.run.opened.Trained", "path": str(place.run), "trust": ["evil"]},
    "fifo": lambda place: _fifo_of(place),
    "checkpoint": lambda place: str(place.good / "flow" / "checkpoints" / "best.safetensors"),
    "digits": lambda place: str(place.good / "digits"),
    "field": lambda place: str(place.good / "field"),
    "student": lambda place: str(place.good / "student"),
    "evil": lambda place: _hostile_other(place, "model", {"_target_": "evil.Model"}),
    "command": lambda place: _hostile_other(place, "model", {"_target_": "os.system", "command": "touch ran"}),
    "defaults": lambda place: _hostile_other(place, "model.defaults", DEFAULTS["callback"]),
    "pickled": lambda place: _pickled_other(place),
    "cycle": lambda place: _cycle(place),
    "deep": lambda place: _chain(place),
    "looped-link": lambda place: _looped_link(place),
}


def _fifo_of(place: Place) -> str:
    os.mkfifo(place.outside / "fifo")
    return str(place.outside / "fifo")


def _hostile_other(place: Place, path: str, value: object) -> str:
    evil_package(place.work, place.mark)
    other = other_run(place, "other")
    edit(place, "trust", ["evil"], other)
    edit(place, path, value, other)
    return str(other)


def _pickled_other(place: Place) -> str:
    other = other_run(place, "other")
    for file in (other / "checkpoints").iterdir():
        file.write_bytes(pickle.dumps(Payload(place.mark)))
    return str(other)


def _cycle(place: Place) -> str:
    other = other_run(place, "other", "tilted")
    edit(place, "model.run", str(place.run), other)
    return str(other)


def _chain(place: Place) -> str:
    before = str(place.good / "flow")
    for k in range(10):
        other = other_run(place, f"deep{k}", "tilted")
        edit(place, "model.run", before, other)
        before = str(other)
    return before


def _looped_link(place: Place) -> str:
    (place.outside / "loop").symlink_to("loop")
    return str(place.outside / "loop")


def _at(key: str, make: Callable[[Place], object]) -> Callable[[Place], None]:
    return lambda place: edit(place, key, make(place))


def _runs() -> Iterator[Case]:
    for k, (name, make) in enumerate(PATHS.items()):
        yield Case(f"runs/model.run-{name}", _at("model.run", make), ("sample", "resume", "load"), "tilted")
        verbs = ("resume", "sample")
        yield Case(f"runs/objective.teacher-{name}", _at("objective.teacher", make), verbs, "student")
        key = ("objective.noise.run", "estimator.base.run")[k % 2]
        verbs = ("resume", "eval") if k % 2 else ("resume", "sample")
        yield Case(f"runs/{key}-{name}", _at(key, make), verbs, "tilted")
        if k % 4 == 0:
            key = ("sampler.run", "data.run", "model.net.run", "trainer.run", "choices.run")[k // 4 % 5]
            yield Case(f"runs/{key}-{name}", _at(key, make), _verbs(key))


# --- values ----------------------------------------------------------------------------------------------------------

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
)
OPTIMIZER = ("name", "lr", "weight_decay", "schedule", "warmup_steps", "final_lr_fraction", "betas")
VALUE_KEYS = (
    *(f"trainer.{key}" for key in TRAINER),
    *(f"optimizer.{key}" for key in OPTIMIZER),
    *("logger.tensorboard", "seed", "device", "n", "run_dir", "choices", "trust"),
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
        yield Case(f"values/device={_word(value)}", setting("device", value), ("again", "sample", "load"))
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
        yield Case(f"values/{key.strip()}={_word(value)}", setting(key.strip(), value), verbs)
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
        yield Case(f"choices/key-{_word(key)}", merging("choices", {key: "x"}), ("sample", "again"))


# --- data files ------------------------------------------------------------------------------------------------------


def _dataset(target: str, **options: object) -> Callable[[Place], None]:
    """Make the data section one of files; values that are callable are given the place."""

    def change(place: Place) -> None:
        found = {key: value(place) if callable(value) else value for key, value in options.items()}
        edit(place, "data", {"root": None, "_target_": f"gencli.data.{target}", **found})

    return change


def _empty(place: Place) -> str:
    (place.outside / "empty").mkdir()
    return str(place.outside / "empty")


def _inside(place: Place, name: str, data: bytes) -> str:
    (place.run / name).write_bytes(data)
    return str(place.run / name)


def _objects(place: Place) -> str:
    with (place.run / "x.npy").open("wb") as file:
        np.save(file, np.array([Payload(place.mark)] * 50, dtype=object), allow_pickle=True)
    return str(place.run / "x.npy")


def _zipped_objects(place: Place) -> str:
    np.savez(place.run / "x.npz", train=np.array([Payload(place.mark)] * 50, dtype=object))
    return str(place.run / "x.npz")


def _npy_header(shape: str, descr: str = "'<f8'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def _zip_of(name: str, data: bytes, times: int = 1) -> Callable[[Place], bytes]:
    def make(place: Place) -> bytes:
        file = place.scratch / "tmp" / "x.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
            for _ in range(times):
                member.write(data)
        return file.read_bytes()

    return make


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 32 32
%%EndComments
(ran) (w) file closefile
showpage
%%EOF
"""


def _photos(**files: bytes) -> Callable[[Place], str]:
    """A folder of "images" within the run."""

    def make(place: Place) -> str:
        photos = place.run / "photos"
        photos.mkdir()
        for name, data in files.items():
            for k in range(20):
                (photos / f"{name}{k}.png").write_bytes(data)
        return str(photos)

    return make


def _linked_photos(place: Place) -> str:
    photos = place.run / "photos"
    photos.mkdir()
    for k in range(20):
        (photos / f"{k}.png").symlink_to("/dev/zero")
    (photos / "loop").symlink_to(photos)
    return str(photos)


def _bomb_png() -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    )


def _data() -> Iterator[Case]:
    for target in (
        *("mnist.MNIST", "mnist.FashionMNIST", "cifar10.CIFAR10", "svhn.SVHN", "celeba.CelebA", "tabular.Power"),
        *("binarized_mnist.BinarizedMNIST", "text.TinyShakespeare", "text.Enwik8", "uci_binary.UCIBinary"),
    ):
        yield Case(f"data/{target}-outside", _dataset(target, root=_empty), ("sample", "eval", "again", "load"))
    for name, root in {
        "new": lambda place: str(place.outside / "new" / "folder"),
        "link": lambda place: _link_out(place),
        "nobody": lambda place: "~nobody-of-this-name",
        "home": lambda place: "~",
        "empty": lambda place: "",
        "nul": lambda place: "a\0b",
        "zero": lambda place: "/dev/zero",
        "list": lambda place: ["x"],
        "number": lambda place: 3,
        "url": lambda place: "http://127.0.0.1:9/",
        "long": lambda place: "x" * 5000,
    }.items():
        yield Case(f"data/root-{name}", _dataset("mnist.MNIST", root=root), ("sample", "again"))
    for target in ("array.Array", "csv.CSV", "text.TextFile", "image_folder.ImageFolder"):
        for name in (
            "fifo",
            "zero",
            "nobody",
            "nul",
            "root",
            "long",
            "url",
            "escape",
            "list",
            "number",
            "empty",
            "mem",
        ):
            verbs = ("sample", "again") if name in ("fifo", "zero") else ("sample",)
            yield Case(f"data/{target}-{name}", _dataset(target, path=PATHS[name]), verbs)
    yield Case("data/objects-npy", _dataset("array.Array", path=_objects), OPENING)
    yield Case("data/objects-npz", _dataset("array.Array", path=_zipped_objects), OPENING)
    for name, data in {
        "pickle": pickle.dumps({"train": 1}),
        "shape": _npy_header("(1000000000000, 2)"),
        "negative-shape": _npy_header("(-1, 2)"),
        "code": _npy_header("(__import__('os').system('touch ran'), 2)"),
        "descr": _npy_header("(1,)", "[('a', '<f8', (100000, 100000))]"),
        "object-descr": _npy_header("(1,)", "'|O'"),
        "deep-header": _npy_header("(" * 3000 + ")" * 3000),
        "empty": b"",
    }.items():
        make = lambda place, data=data: _inside(place, "x.npy", data)  # noqa: E731
        yield Case(f"data/npy-{name}", _dataset("array.Array", path=make), ("sample", "again"))
    bomb = _zip_of("train.npy", _npy_header(f"({2**28}, 16)") + bytes(2**20), 1)
    make = lambda place: _inside(place, "x.npz", bomb(place))  # noqa: E731
    yield Case("data/npz-short", _dataset("array.Array", path=make), ("sample", "again"))
    for name, data in {
        "pickle": pickle.dumps([1]),
        "formulas": b"a,b\n" + b"=cmd|' /C touch ran'!A0,1\n" * 20,
        "names": b"\x1b]0;pwn\x07,b\n" + b"x,2\n" * 20,
        "nul": b"a,b\n" + b"\0,1\n" * 20,
        "wide": b",".join(b"1" for _ in range(2_000)) + b"\n",
        "not-utf8": b"a,b\n\xff\xfe,1\n" * 20,
        "ragged": b"a,b\n1,2,3,4\n1\n" * 20,
        "huge": b"a,b\n" + b"1e999,2\n" * 20,
    }.items():
        make = lambda place, data=data: _inside(place, "x.csv", data)  # noqa: E731
        yield Case(f"data/csv-{name}", _dataset("csv.CSV", path=make), ("sample", "again"))
    for name, ending, data in (
        ("pickled-zip", ".csv.zip", lambda place: _zip_of("../../../ran", b"a,b\n1,2\n" * 20)(place)),
        ("tar", ".csv.tar", lambda place: _tar(place)),
        ("no-xz", ".csv.xz", lambda place: b"no xz"),
        ("zst", ".csv.zst", lambda place: b"no zst"),
        ("xlsx", ".xlsx", lambda place: b"PK"),
        ("hdf", ".h5", lambda place: b"\x89HDF\r\n\x1a\n"),
    ):
        make = lambda place, ending=ending, data=data: _inside(place, f"x{ending}", data(place))  # noqa: E731
        yield Case(f"data/csv-{name}", _dataset("csv.CSV", path=make), ("sample",))
    for name, options in {
        "regex": {"separator": "(a+)+$"},
        "separator": {"separator": ""},
        "control": {"separator": ESCAPE},
        "columns": {"columns": ["__class__"]},
        "label": {"label": ESCAPE},
        "support": {"support": "levels:99999999999999999999"},
        "support-nan": {"support": "levels:nan"},
    }.items():
        table = lambda place: _inside(place, "x.csv", b"a,b\n" + b"1,2\n" * 5 + b"a" * 40 + b"!,1\n")  # noqa: E731
        yield Case(f"data/csv-option-{name}", _dataset("csv.CSV", path=table, **options), ("sample",))
    for name, make in {
        "postscript": _photos(a=EPS),
        "postscript-binary": _photos(a=b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(EPS)) + bytes(20) + EPS),
        "bomb": _photos(a=_bomb_png()),
        "pickle": _photos(a=pickle.dumps(1)),
        "text": _photos(a=b"no image"),
        "empty": _photos(a=b""),
        "links": _linked_photos,
        "fits": _photos(a=b"SIMPLE  =                    T" + b" " * 50 + b"BITPIX  =  8"),
    }.items():
        yield Case(f"data/images-{name}", _dataset("image_folder.ImageFolder", path=make), ("eval", "resume"))
    for name, data in {
        "controls": ESCAPE.encode() * 200,
        "not-utf8": b"\xff\xfe" * 500,
        "bidi": ("\u202e" * 500).encode(),
        "empty": b"",
    }.items():
        make = lambda place, data=data: _inside(place, "x.txt", data)  # noqa: E731
        yield Case(f"data/text-{name}", _dataset("text.TextFile", path=make), ("sample", "again"))


def _tar(place: Place) -> bytes:
    file = place.scratch / "tmp" / "x.tar"
    source = place.scratch / "tmp" / "member"
    source.write_bytes(b"a,b\n1,2\n" * 20)
    with tarfile.open(file, "w") as archive:
        archive.add(source, "../../../ran")
    return file.read_bytes()


def _link_out(place: Place) -> str:
    (place.run / "data").symlink_to(place.outside)
    return str(place.run / "data")


# --- what is read by compare and completion --------------------------------------------------------------------------

WRONG: dict[str, object] = {
    "list": [[[]]],
    "mapping": {"a": {"b": 1}},
    "text": "touch ran",
    "escape": ESCAPE,
    "newlines": "a\nb\rc\x0bd\u2028e",
    "markup": MARKUP,
    "nan": float("nan"),
    "infinite": float("-inf"),
    "huge": HUGE,
    "negative": -(2**63),
    "true": True,
    "null": None,
    "long": "x" * 100_000,
}
INFO = ("status", "reason", "progress", "result", "wall_seconds", "parameters", "seed", "versions", "started", "best")
RECORD = (
    *("metric", "value", "unit", "split", "split_sha256", "bound", "estimator", "better", "weights", "sampler"),
    *("bits_per_dim", "perplexity", "se", "se_examples", "se_estimator", "se_shared", "seed", "n_examples"),
    *("n_nonfinite", "protocol", "settings", "sampler_settings", "diagnostics", "ledger", "checkpoint"),
)
FILES: dict[str, str | bytes] = {
    "empty": "",
    "null": "null",
    "list": "[1, 2]",
    "scalar": "3",
    "text": '"x"',
    "deep": "[" * 100_000,
    "deep-closed": "[" * 50_000 + "]" * 50_000,
    "deep-key": '{"a":' * 50_000,
    "digits": '{"value": ' + "9" * 10_000 + "}",
    "not-utf8": b'{"value": "\xff\xfe"}',
    "utf16": '{"value": 1}'.encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"value": 1}',
    "nul": b'{"value": 1}\0',
    "many": "[" + "1," * 500_000 + "1]",
    "surrogate": '{"metric": "\\ud800", "value": 1, "split": "test", "status": "\\udfff"}',
    "duplicate": '{"value": 1, "value": {"a": 1}}',
    "pickle": pickle.dumps({"a": 1}),
}


def _second(place: Place) -> None:
    """A good run beside the hostile one: only then compare pairs examples."""
    other_run(place, "other")


def _records() -> Iterator[Case]:
    record = "eval/test-exact.json"
    names = list(WRONG)
    for k, key in enumerate(INFO):
        for j in range(4):
            name = names[(k * 3 + j * 4) % len(names)]
            verbs = (*READING[:2], "load", "complete", "resume")
            yield Case(f"records/info-{key}-{name}", of_json("run.json", [key], WRONG[name]), verbs)
    for k, key in enumerate(RECORD):
        for j in range(4):
            name = names[(k * 5 + j * 3) % len(names)]
            yield Case(f"records/{key}-{name}", both(_second, of_json(record, [key], WRONG[name])), READING)
    for key, value in {
        "term": [{"term": ESCAPE, "nats": "x"}],
        "ledger-mixed": [1, None, {"term": []}],
        "diagnostics-nested": {"nll_minus_entropy": "x", ESCAPE: 1},
        "protocol-nested": {"data": {"a": [1]}, ESCAPE: ESCAPE, MARKUP: [HUGE]},
        "settings-nested": {"a": {"b": {"c": float("nan")}}},
    }.items():
        name = key.partition("-")[0].replace("term", "ledger")
        yield Case(f"records/{key}", both(_second, of_json(record, [name], value)), READING)
    for key, value in {
        "data": ESCAPE, "data ": MARKUP, "data  ": ["a"], "data   ": "x\ny", "support": HUGE, "transform": {"a": 1},
    }.items():  # fmt: skip
        change = both(_second, of_json(record, ["protocol", key.strip()], value))
        yield Case(f"records/protocol.{key.strip()}-{_word(repr(value))}", change, READING)
    for name, data in FILES.items():
        yield Case(f"records/file-{name}", both(_second, content(record, data)), READING)
        yield Case(f"records/run.json-{name}", content("run.json", data), ("compare", "resume", "load", "sample"))
        yield Case(f"records/metrics-{name}", content("metrics.jsonl", data), ("compare", "resume", "load"))
    for name, line in {
        "step-text": '{"step": "x", "split": "val"}',
        "step-list": '{"step": [1]}',
        "step-nan": '{"step": NaN}',
        "step-huge": '{"step": ' + "9" * 400 + "}",
        "step-bool": '{"step": true}',
        "no-step": '{"split": "val"}',
        "number": "3",
        "escape": '{"step": 1, "split": "' + r"\u001b]0;pwn\u0007" + '"}',
    }.items():
        yield Case(f"records/line-{name}", content("metrics.jsonl", line + "\n"), ("resume", "load", "compare"))
    for name, make in {"sparse": sparse, "fifo": fifo, "device": device, "folder": folder}.items():
        yield Case(f"records/eval-{name}", both(_second, make(record)), READING)
        yield Case(f"records/npz-{name}", both(_second, make("eval/test-exact.npz")), ("compare", "load"))
        yield Case(f"records/run.json-{name}", make("run.json"), ("compare", "resume", "sample", "complete"))
        yield Case(f"records/metrics-{name}", make("metrics.jsonl"), ("resume", "load", "compare"))
        yield Case(f"records/log-{name}", make("train.log"), ("resume",))
    arrays = "eval/test-exact.npz"
    for name, make in {
        "objects": lambda place: _savez(place, ids=np.arange(40), nll=np.array([Payload(place.mark)] * 40, object)),
        "object-ids": lambda place: _savez(place, ids=np.array([Payload(place.mark)] * 40, object), nll=np.zeros(40)),
        "texts": lambda place: _savez(place, ids=np.arange(40), nll=np.array(["x"] * 40)),
        "scalars": lambda place: _savez(place, ids=np.array(1), nll=np.array(1.0)),
        "matrix": lambda place: _savez(place, ids=np.zeros((40, 2)), nll=np.zeros((40, 2))),
        "short": lambda place: _savez(place, ids=np.arange(40), nll=np.zeros(3)),
        "twice": lambda place: _savez(place, ids=np.zeros(40, int), nll=np.zeros(40)),
        "structured": lambda place: _savez(place, ids=np.arange(40), nll=np.zeros(40, [("a", "f8")])),
        "complex": lambda place: _savez(place, ids=np.arange(40), nll=np.zeros(40, complex)),
        "nan": lambda place: _savez(place, ids=np.arange(40), nll=np.full(40, np.nan)),
        "dates": lambda place: _savez(place, ids=np.arange(40), nll=np.zeros(40, "datetime64[s]")),
        "no-ids": lambda place: _savez(place, nll=np.zeros(40)),
        "empty": lambda place: b"",
        "pickle": lambda place: pickle.dumps(Payload(place.mark)),
        "no-zip": lambda place: b"PK\x03\x04" + bytes(100),
        "bomb": _zip_of("nll.npy", _npy_header(f"({2**32},)") + bytes(2**22), 1),
        "bomb-real": _zip_of("nll.npy", bytes(2**22), 300),
        "shape": _zip_of("ids.npy", _npy_header("(10000000000000,)")),
        "header-code": _zip_of("ids.npy", _npy_header("(__import__('os').system('touch ran'),)")),
        "path": _zip_of("../../../../ran", b"x"),
        "counts": lambda place: _savez(place, ids=np.arange(40), nll=np.zeros(40), counts=np.zeros(40)),
        "counts-zero": lambda place: _savez(place, ids=np.arange(40), nll=np.zeros(40), counts=np.zeros(40, int)),
        "counts-objects": lambda place: _savez(
            place, ids=np.arange(40), nll=np.zeros(40), counts=np.array([Payload(place.mark)] * 40, object)
        ),
    }.items():  # fmt: skip
        yield Case(f"records/npz-{name}", both(_second, content(arrays, make)), ("compare", "compare-json"))
    for key, value in {
        "estimator": "../../../outside/x",
        "split": "../../outside/x",
        "estimator ": "/etc/x",
        "estimator  ": "a\0b",
        "split ": "x" * 5000,
    }.items():
        change = both(_second, of_json(record, [key.strip()], value))
        yield Case(f"records/path-{key.strip()}-{_word(value)}", change, ("compare", "compare-json"))
    for name in (f"test-{ESCAPE}.json", f"test-{MARKUP.replace('/', '_')}.json", "test-\n.json", "test-.json"):
        change = both(_second, lambda place, name=name: shutil.copy(place.run / record, place.run / "eval" / name))
        yield Case(f"records/name-{_word(name)}", change, ("compare", "load"))


def _savez(place: Place, **arrays: np.ndarray) -> bytes:
    file = place.scratch / "tmp" / "arrays.npz"
    np.savez(file, **arrays)
    return file.read_bytes()


# --- checkpoints -----------------------------------------------------------------------------------------------------

CHECKPOINTS = ("best", "last", "previous")


def _each_checkpoint(function: Callable[[Place, bytes], bytes]) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        for name in CHECKPOINTS:
            file = place.run / "checkpoints" / f"{name}.safetensors"
            file.write_bytes(function(place, file.read_bytes()))

    return change


def header(function: Callable[[dict], object]) -> Callable[[Place], None]:
    """Change the JSON in front of a safetensors file, and leave its tensors."""

    def one(place: Place, data: bytes) -> bytes:
        (length,) = struct.unpack("<Q", data[:8])
        found = json.loads(data[8 : 8 + length])
        changed = function(found)
        new = json.dumps(found if changed is None else changed).encode() if not isinstance(changed, bytes) else changed
        new += b" " * (-len(new) % 8)
        return struct.pack("<Q", len(new)) + new + data[8 + length :]

    return _each_checkpoint(one)


def meta(function: Callable[[dict], object]) -> Callable[[Place], None]:
    """Change gencli's own JSON within the header; the sum of the tensors stays right."""

    def one(found: dict) -> None:
        inner = json.loads(found["__metadata__"]["meta"])
        changed = function(inner)
        found["__metadata__"]["meta"] = changed if isinstance(changed, str) else json.dumps(inner)

    return header(one)


def meta_key(path: Sequence[str | int], value: object) -> Callable[[Place], None]:
    def function(inner: dict) -> None:
        node = inner
        for key in path[:-1]:
            node = node[next(iter(node)) if key == "*" else key]
        node[path[-1]] = value

    return meta(function)


def tensors(function: Callable[[dict], None]) -> Callable[[Place], None]:
    """Change the tensors, with a sum that fits."""

    def change(place: Place) -> None:
        from gencli.run import checkpoint

        for name in CHECKPOINTS:
            file = place.run / "checkpoints" / f"{name}.safetensors"
            found, scalars = checkpoint.read(file)
            function(found)
            checkpoint.write(file, found, scalars)

    return change


def _renamed(found: dict, make: Callable[[str], str]) -> None:
    for name in list(found):
        found[make(name)] = found.pop(name)


def _torch_saved(place: Place, data: bytes) -> bytes:
    import torch

    file = place.scratch / "tmp" / "x.pt"
    torch.save({"model": Payload(place.mark)}, file)
    return file.read_bytes()


def _far_offsets(found: dict) -> None:
    name = next(key for key in found if key != "__metadata__")
    found[name] = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}


def _checkpoints() -> Iterator[Case]:
    both_verbs = ("sample", "resume")
    pick = _each_checkpoint(lambda place, data: pickle.dumps(Payload(place.mark)))
    yield Case("checkpoint/pickle", pick, OPENING)
    yield Case("checkpoint/torch", _each_checkpoint(_torch_saved), OPENING)
    for name, function in {
        "empty": lambda place, data: b"",
        "short": lambda place, data: data[: len(data) // 2],
        "header-length": lambda place, data: struct.pack("<Q", 2**63) + data[8:],
        "header-zero": lambda place, data: bytes(8) + data[8:],
        "longer": lambda place, data: data + b"x" * 100,
        "flipped": lambda place, data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        "text": lambda place, data: b"import os\n" * 100,
    }.items():
        yield Case(f"checkpoint/{name}", _each_checkpoint(function), both_verbs)
    for name, function in {
        "no-metadata": lambda h: h.pop("__metadata__") and None,
        "format-text": lambda h: h["__metadata__"].update(format=ESCAPE),
        "format-huge": lambda h: h["__metadata__"].update(format="9" * 5000),
        "format-negative": lambda h: h["__metadata__"].update(format="-1"),
        "format-newer": lambda h: h["__metadata__"].update(format="99"),
        "no-format": lambda h: h["__metadata__"].pop("format") and None,
        "sum": lambda h: h["__metadata__"].update(sha256=ESCAPE),
        "no-sum": lambda h: h["__metadata__"].pop("sha256") and None,
        "extra": lambda h: h["__metadata__"].update({"__class__": "evil", ESCAPE: ESCAPE}),
        "deep": lambda h: b"[" * 100_000,
        "list": lambda h: b"[]",
        "offsets": _far_offsets,
        "dtype": lambda h: h.update(evil={"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 4]}),
    }.items():  # fmt: skip
        yield Case(f"checkpoint/header-{name}", header(function), both_verbs)
    for name, function in {
        "deep": lambda m: "[" * 100_000,
        "deep-map": lambda m: '{"a":' * 50_000,
        "list": lambda m: "[]",
        "null": lambda m: "null",
        "text": lambda m: '"x"',
        "empty": lambda m: "",
        "digits": lambda m: '{"step": ' + "9" * 10_000 + "}",
        "empty-map": lambda m: "{}",
        "many": lambda m: json.dumps({**m, "x": [0] * 300_000}),
    }.items():
        yield Case(f"checkpoint/meta-{name}", meta(function), both_verbs)
    for k, (key, value) in enumerate(
        itertools.product(("step", "seconds", "stale", "best", "optimizers", "scaler"), WRONG)
    ):
        if k % 2 == 0 or key == "step":
            yield Case(f"checkpoint/{key}-{value}", meta_key([key], WRONG[value]), ("resume",))
    for name, best in {
        "texts": ["a", "b"], "one": [1], "mapping": {"a": 1}, "nan": [float("nan"), 6], "lists": [[], []],
        "negative": [-1e308, -5], "huge": [HUGE, HUGE], "three": [1.0, 2, 3], "inf": [float("-inf"), 6],
    }.items():  # fmt: skip
        yield Case(f"checkpoint/best={name}", meta_key(["best"], best), ("resume", "sample"))
    for name, step in {"fraction": 2.5, "minus": -3, "far": 10**15, "int63": 2**63 - 1, "text": "3"}.items():
        yield Case(f"checkpoint/step={name}", meta_key(["step"], step), ("resume", "sample"))
    group = ["optimizers", "*", "param_groups"]
    for name, path, value in (
        ("groups-text", group, "x"),
        ("groups-empty", group, []),
        ("groups-many", group, [{"params": [0]}] * 50),
        ("groups-mapping", group, {"0": {}}),
        ("params-text", [*group, 0, "params"], "abc"),
        ("params-huge", [*group, 0, "params"], [HUGE]),
        ("params-nested", [*group, 0, "params"], [[0]]),
        ("lr-text", [*group, 0, "lr"], "x"),
        ("lr-list", [*group, 0, "lr"], [1]),
        ("fused-text", [*group, 0, "fused"], "x"),
        ("capturable", [*group, 0, "capturable"], True),
        ("foreach", [*group, 0, "foreach"], "x"),
        ("differentiable", [*group, 0, "differentiable"], True),
        ("decoupled", [*group, 0, "decoupled_weight_decay"], []),
        ("betas", [*group, 0, "betas"], "x"),
        ("eps", [*group, 0, "eps"], {}),
        ("extra-key", [*group, 0, ESCAPE], 1),
        ("state-text", ["optimizers", "*", "state"], "x"),
        ("state-index", ["optimizers", "*", "state"], {"x": {"step": 1}}),
        ("state-far", ["optimizers", "*", "state"], {"99999": {"step": 1}}),
        ("state-list", ["optimizers", "*", "state"], {"0": [1, 2]}),
        ("state-step", ["optimizers", "*", "state"], {"0": {"step": "x"}}),
        ("turn", ["optimizers"], {"evil": {"state": {}, "param_groups": []}}),
        ("turn-text", ["optimizers", "model"], "x"),
        ("scaler", ["scaler"], {"scale": "x", "growth_factor": None}),
        ("scaler-list", ["scaler"], [1]),
    ):
        yield Case(f"checkpoint/optimizer-{name}", meta_key(path, value), ("resume",))
    import torch

    for name, function in {
        "escape": lambda t: _renamed(t, lambda n: f"{n}{ESCAPE}"),
        "up": lambda t: _renamed(t, lambda n: f"model/../../{n}"),
        "class": lambda t: t.update({"model/__class__": torch.zeros(1)}),
        "index-text": lambda t: t.update({"optimizer.model/x/exp_avg": torch.zeros(1)}),
        "index-deep": lambda t: t.update({"optimizer.model/0/a/b/c": torch.zeros(1)}),
        "index-far": lambda t: t.update({"optimizer.model/999999/exp_avg": torch.zeros(1)}),
        "state-key": lambda t: t.update({f"optimizer.model/0/{ESCAPE}": torch.zeros(1)}),
        "none": lambda t: t.clear() or t.update(x=torch.zeros(1)),
        "shapes": lambda t: t.update({n: torch.zeros(3, 5, 7) for n in list(t) if n.startswith("model/")}),
        "empty-shapes": lambda t: t.update({n: torch.zeros(0) for n in list(t)}),
        "whole": lambda t: t.update({n: v.long() for n, v in t.items()}),
        "complex": lambda t: t.update({n: v.to(torch.complex64) for n, v in t.items()}),
        "half": lambda t: t.update({n: v.half() for n, v in t.items()}),
        "float8": lambda t: t.update({n: v.to(torch.float8_e4m3fn) for n, v in t.items()}),
        "nan": lambda t: t.update({n: v * float("nan") for n, v in t.items() if v.is_floating_point()}),
        "large": lambda t: t.update({n: v * 0 + 1e30 for n, v in t.items() if v.is_floating_point()}),
        "moments": lambda t: t.update({n: torch.zeros(3) for n in list(t) if n.startswith("optimizer")}),
        "many": lambda t: t.update({f"x/{k}": torch.zeros(1) for k in range(3000)}),
    }.items():
        verbs = ("resume",) if name in ("index-text", "index-deep", "index-far", "state-key", "moments") else ALL
        yield Case(f"checkpoint/tensors-{name}", tensors(function), verbs)
    for name, make in {"fifo": fifo, "device": device, "folder": folder, "sparse": sparse}.items():
        changes = both(*(make(f"checkpoints/{which}.safetensors") for which in CHECKPOINTS))
        yield Case(f"checkpoint/{name}", changes, OPENING)
    yield Case("checkpoint/best-only-fifo", fifo("checkpoints/best.safetensors"), ("resume", "sample"))
    yield Case("checkpoint/best-folder", folder("checkpoints/best.safetensors"), ("resume", "sample"))
    gone = lambda place: shutil.rmtree(place.run / "checkpoints")  # noqa: E731
    yield Case("checkpoint/gone", gone, OPENING)
    name = both(content(f"checkpoints/{ESCAPE}.safetensors", b"x"), lambda place: _unlink(place.run, "last", "best"))
    yield Case("checkpoint/name", name, OPENING)


def _unlink(run: Path, *names: str) -> None:
    for name in names:
        (run / "checkpoints" / f"{name}.safetensors").unlink()


# --- links -----------------------------------------------------------------------------------------------------------

WRITTEN = {
    "run.json": ("resume",),
    "config.yaml": ("resume",),
    "metrics.jsonl": ("resume",),
    "train.log": ("resume",),
    "checkpoints/last.safetensors": ("resume",),
    "checkpoints/best.safetensors": ("resume",),
    "checkpoints/previous.safetensors": ("resume",),
    "checkpoints/.previous.tmp": ("resume",),
    "eval/test-exact.json": ("eval", "resume"),
    "eval/test-exact.npz": ("eval", "resume"),
    "samples/direct-seed0.npz": ("sample",),
    "samples/direct-seed0.png": ("sample",),
    "samples/direct.npz": ("resume",),
    "samples/direct.png": ("resume",),
}


def _linked(name: str, dangling: bool) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        victim, file = place.outside / f"victim-{name.replace('/', '-')}", place.run / name
        if file.exists():
            shutil.copyfile(file, victim)  # the same content, so that the run opens
            file.unlink()
        else:
            victim.write_text("mine\n")
        if dangling:
            victim.unlink()
        file.symlink_to(victim)

    return change


def _linked_folder(name: str, filled: bool, relative: bool = False) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        victim, own = place.outside / f"victim-{name}", place.run / name
        if filled and own.exists():
            shutil.copytree(own, victim)
        else:
            victim.mkdir()
        (victim / ".old.tmp").write_text("mine\n")
        if own.exists():
            shutil.rmtree(own)
        own.symlink_to(os.path.relpath(victim, own.parent) if relative else victim)

    return change


def _temporaries(*names: str) -> Callable[[Place], None]:
    """Links at the names of temporary files that the next processes would take."""

    def change(place: Place) -> None:
        (place.outside / "victim").write_text("mine\n")
        probe = os.fork()
        if probe == 0:
            os._exit(0)
        os.waitpid(probe, 0)
        for name in names:
            file = place.run / name
            for pid in range(probe + 1, probe + 200):
                file.with_name(f".{file.name}.{pid}.tmp").symlink_to(place.outside / "victim")

    return change


def _links() -> Iterator[Case]:
    for name, verbs in WRITTEN.items():
        yield Case(f"links/{name}", _linked(name, False), verbs)
        if name.startswith(("samples", "eval", "train", "metrics", "checkpoints/.")):
            yield Case(f"links/{name}-dangling", _linked(name, True), verbs)
    for name in ("samples", "eval", "checkpoints", "tensorboard"):
        verbs = {"samples": ("sample", "resume"), "eval": ("eval", "resume")}.get(name, ("resume",))
        for filled in (True, False) if name != "tensorboard" else (False,):
            extra = ("logger=tensorboard",) if name == "tensorboard" else ()
            how = "filled" if filled else "empty"
            yield Case(f"links/{name}-{how}", _linked_folder(name, filled), verbs, extra=extra)
            relative = _linked_folder(name, filled, relative=True)
            yield Case(f"links/{name}-{how}-relative", relative, verbs, extra=extra)
        dangling = lambda place, name=name: _dangling_folder(place, name)  # noqa: E731
        extra = ("logger=tensorboard",) if name == "tensorboard" else ()
        yield Case(f"links/{name}-dangling", dangling, verbs, extra=extra)
    samples = lambda place: (place.run / "samples" / "x").symlink_to(place.outside)  # noqa: E731
    yield Case("links/sample-name", samples, ("sample",), extra=("name=x/y",))
    yield Case("links/temporary-sample", _temporaries("samples/direct-seed0.npz"), ("sample",))
    yield Case("links/temporary-run.json", _temporaries("run.json", "config.yaml", "metrics.jsonl"), ("resume",))
    yield Case("links/temporary-eval", _temporaries("eval/test-exact.json", "eval/test-exact.npz"), ("eval",))
    yield Case("links/temporary-checkpoint", _temporaries("checkpoints/last.safetensors"), ("resume",))
    for name in ("nonfinite.json", "nonfinite.safetensors"):
        explode = both(_linked(name, False), setting("optimizer.lr", 1e30), setting("trainer.clip_norm", None))
        explode = both(explode, setting("optimizer.name", "sgd"), text(_as_sgd))
        yield Case(f"links/{name}", explode, ("resume",))
    yield Case("links/run-folder", _linked_run, ("sample", "eval", "resume", "compare"))
    yield Case("links/left-over", _linked_folder("left", True), ("resume",))
    step = both(setting("trainer.sample_every", 1), _linked("samples/step-0000007.npz", True))
    yield Case("links/sample-while-training", step, ("resume",))


def _as_sgd(found: str) -> str:
    config = yaml.safe_load(found)
    config["optimizer"] = {**config["optimizer"], "momentum": 0.0}
    config["optimizer"].pop("betas", None)
    return yaml.safe_dump(config)


def _dangling_folder(place: Place, name: str) -> None:
    own = place.run / name
    if own.exists():
        shutil.rmtree(own)
    own.symlink_to(place.outside / "new")


def _linked_run(place: Place) -> None:
    """The run folder is itself a link: what it names is the run, so writing there is right."""
    place.run.rename(place.run.with_name("real"))
    place.run.symlink_to("real")


# --- the working directory -------------------------------------------------------------------------------------------

RAN = "open('ran', 'w').close()\n"
HYDRA_YAML = "defaults:\n  - override hydra/job_logging: evil\n_target_: os.system\ncommand: touch ran\n"
MATPLOTLIBRC = "text.usetex: True\naxes.prop_cycle: cycler('color', [open('ran', 'w').close() or 'k'])\nbackend: evil\n"

AROUND: dict[str, dict[str, str]] = {
    "torch.py": {"torch.py": RAN},
    "numpy.py": {"numpy.py": RAN},
    "yaml.py": {"yaml.py": RAN},
    "hydra": {"hydra/__init__.py": RAN, "omegaconf.py": RAN},
    "hydra_plugins": {"hydra_plugins/__init__.py": RAN, "hydra_plugins/evil/__init__.py": RAN},
    "hydra_plugins-namespace": {"hydra_plugins/evil/__init__.py": RAN, "hydra_plugins/evil.py": RAN},
    "gencli": {"gencli/__init__.py": RAN, "gencli/__main__.py": RAN},
    "standard": {
        f"{name}.py": RAN for name in ("pathlib", "json", "typing", "random", "argparse", "difflib", "inspect")
    },
    "sitecustomize": {"sitecustomize.py": RAN, "usercustomize.py": RAN, "x.pth": "import os; open('ran', 'w')\n"},
    "conf": {f"conf/{name}.yaml": HYDRA_YAML for name in ("train", "sample", "eval", "hydra/job_logging/evil")},
    "hydra-folder": {f".hydra/{name}.yaml": HYDRA_YAML for name in ("config", "hydra", "overrides")},
    "files": {
        "setup.cfg": "[x]\n",
        "tox.ini": "[x]\n",
        "pyproject.toml": "[x",
        ".env": "X=1\n",
        "sample.yaml": HYDRA_YAML,
    },
    "matplotlibrc": {"matplotlibrc": MATPLOTLIBRC},
    "optional": {f"{name}.py": RAN for name in ("torchvision", "tensorboard", "joblib", "rich", "PIL", "evil", "cv2")},
    "extras": {
        f"{name}.py": RAN for name in ("torch_fidelity", "colorlog", "readline", "antigravity", "apport_python_hook")
    },
    "libraries": {"libc.so.6": "x", "libgomp.so.1": "x", "git": "#!/bin/sh\ntouch ran\n"},
    "all-at-once": {
        "torch.py": RAN,
        "matplotlib.py": RAN,
        "scipy/__init__.py": RAN,
        "pandas.py": RAN,
        "safetensors.py": RAN,
    },
}
"""Files of the working directory."""


def around(files: dict[str, str]) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        for name, data in files.items():
            file = place.work / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(data)
            file.chmod(0o755)

    return change


def _around() -> Iterator[Case]:
    cheap = {"yaml.py", "standard", "sitecustomize", "gencli", "extras", "libraries"}
    for name, files in AROUND.items():
        verbs = ["script:sample", "module:sample"]
        if name in cheap:
            verbs += ["script:compare", "module:compare", "module:complete"]
        if name == "gencli":  # `python -m` takes the package of the working directory: that is what it means
            verbs = [verb for verb in verbs if not verb.startswith("module")]
        if name in ("hydra_plugins", "conf"):
            verbs += ["script:resume"]
        yield Case(f"around/{name}", around(files), tuple(verbs))


# --- names -----------------------------------------------------------------------------------------------------------

NAMES = {
    "substitution": "$(touch ran)",
    "backticks": "`touch ran`",
    "semicolon": ";touch ran;",
    "and": "a&&touch ran",
    "pipe": "|touch ran",
    "redirect": ">ran",
    "newline": "a\ntouch ran\nb",
    "escape": f"a{ESCAPE.replace('/', '')}",
    "return": "a\rb",
    "dash": "-rf",
    "option": "--config-dir=evil",
    "quote": "a'$(touch ran)'b",
    "double": 'a"$(touch ran)"b',
    "glob": "a*",
    "brackets": "[link=x]a[closed]",
    "space": "a b",
    "bidi": "a\u202eb",
    "equals": "a=b,c={x}",
    "interpolation": "${oc.env:HOSTILE_SECRET}",
    "hash": "#x",
    "tilde": "~root",
    "surrogate": os.fsdecode(b"a\xff\xfe"),
    "comma": "a,b",
    "backslash": "a\\nb",
    "history": "!!",
}
COMPLETING = ("complete", "complete-resume", "complete-compare", "near", "near-compare", "latest", "compare", "sample")


def _nothing(place: Place) -> None:
    pass


def _names() -> Iterator[Case]:
    for name, value in NAMES.items():
        yield Case(f"names/{name}", _nothing, COMPLETING, name_of_run=value)
    for name, value in NAMES.items():
        inside = lambda place, value=value: (place.work / value).mkdir()  # noqa: E731
        yield Case(f"names/beside-{name}", inside, ("complete-data",))


# --- all -------------------------------------------------------------------------------------------------------------

_GROUPS = (
    *(_defaults, _targets, _own_targets, _keywords, _interpolations, _yaml, _trust, _runs, _values, _choices),
    *(_data, _records, _checkpoints, _links, _around, _names),
)


def cases() -> list[Case]:
    """Every case, in the order of the groups.

    Raises:
        ValueError: two have one name.
    """
    found = [case for group in _GROUPS for case in group()]
    names = [case.name for case in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"cases of one name: {sorted(twice)}")
    return found
