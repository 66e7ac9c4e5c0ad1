"""Checkpoints."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hostile.base import ALL, ESCAPE, HUGE, OPENING, Case, Payload, Place, both, content, device, fifo, folder, sparse
from hostile.records import WRONG

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
    """Change gencli's own JSON within the header, with a hash that fits: a stranger can do that too."""

    def change(place: Place) -> None:
        from safetensors import safe_open
        from safetensors.torch import save

        from gencli.run import checkpoint

        for name in CHECKPOINTS:
            file = place.run / "checkpoints" / f"{name}.safetensors"
            with safe_open(file, "pt") as opened:
                told = dict(opened.metadata())
                found = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            inner = json.loads(told["meta"])
            changed = function(inner)
            told["meta"] = changed if isinstance(changed, str) else json.dumps(inner)
            del told["sha256"]
            file.write_bytes(save(found, metadata=told | {"sha256": checkpoint._digest(found, told)}))

    return change


def meta_key(path: Sequence[str | int], value: object) -> Callable[[Place], None]:
    def function(inner: dict) -> None:
        if len(path) > 1 and path[0] not in inner:
            return  # best has no optimizers
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


def cases() -> Iterator[Case]:
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
