"""Trust, and runs within runs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator

from hostile.base import ESCAPE, Case, Payload, Place, both, edit, evil_package, merging, other_run, setting, verbs_of
from hostile.defaults import DEFAULTS, word


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
            yield Case(f"trust/{section}-{where}", attack, (*verbs_of(section), "load"))
        for section, base in (("objective.noise", "tilted"), ("estimator.base", "tilted")):
            attack = both(make, setting("trust", ["evil", "gencli", "os"]), setting(section, node))
            yield Case(f"trust/{section}-{where}", attack, ("eval", "resume"), base)
        attack = both(make, merging("model", {"trust": ["evil"]}), setting("model._target_", "evil.Model"))
        yield Case(f"trust/within-{where}", attack)
    for k, value in enumerate(["evil", ["evil"], [["evil"]], {"evil": 1}, [1], None, ["*"], ["os"], [""], True]):
        attack = both(_in_work, setting("trust", value), setting("sampler", node))
        yield Case(f"trust/value-{k}-{word(value)}", attack, ("sample", "again"))


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
            yield Case(f"runs/{key}-{name}", _at(key, make), verbs_of(key))


def cases() -> Iterator[Case]:
    yield from _trust()
    yield from _runs()
