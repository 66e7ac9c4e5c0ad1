"""What is read by compare and completion."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator

import numpy as np

from hostile.base import (
    ESCAPE,
    HUGE,
    MARKUP,
    READING,
    Case,
    Payload,
    Place,
    both,
    content,
    device,
    fifo,
    folder,
    of_json,
    other_run,
    sparse,
)
from hostile.defaults import word
from hostile.files import npy_header, zip_of

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


def cases() -> Iterator[Case]:
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
        yield Case(f"records/protocol.{key.strip()}-{word(repr(value))}", change, READING)
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
        "bomb": zip_of("nll.npy", npy_header(f"({2**32},)") + bytes(2**22), 1),
        "bomb-real": zip_of("nll.npy", bytes(2**22), 300),
        "shape": zip_of("ids.npy", npy_header("(10000000000000,)")),
        "header-code": zip_of("ids.npy", npy_header("(__import__('os').system('touch ran'),)")),
        "path": zip_of("../../../../ran", b"x"),
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
        yield Case(f"records/path-{key.strip()}-{word(value)}", change, ("compare", "compare-json"))
    for name in (f"test-{ESCAPE}.json", f"test-{MARKUP.replace('/', '_')}.json", "test-\n.json", "test-.json"):
        change = both(_second, lambda place, name=name: shutil.copy(place.run / record, place.run / "eval" / name))
        yield Case(f"records/name-{word(name)}", change, ("compare", "load"))


def _savez(place: Place, **arrays: np.ndarray) -> bytes:
    file = place.scratch / "tmp" / "arrays.npz"
    np.savez(file, **arrays)
    return file.read_bytes()
