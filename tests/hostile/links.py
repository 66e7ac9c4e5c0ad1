"""Links."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import yaml

from hostile.base import Case, Place, both, setting, text

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


def cases() -> Iterator[Case]:
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
