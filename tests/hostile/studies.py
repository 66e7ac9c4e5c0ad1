"""What the storage of a search holds that a stranger made: numbers, attributes, states, what samplers keep, lines."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

from hostile.base import ESCAPE, HUGE, MARKUP, Case, Payload, Place
from hostile.storage import ENDED, GOING, JOURNAL, MORE, alone, case, good, instead, put, sql, system, text

NUMBERS = {
    **{"nan": "'nan'", "text": text(ESCAPE), "null": "null", "blob": "x'00ff'", "inf": "9e999"},
    "big": f"{2**63 - 1}",
}
"""Values in the words of SQL."""


def cases() -> Iterator[Case]:
    """Every case of this file."""
    for kind in (_values, _distributions, _attributes, _states, _samplers, _journals):
        yield from kind()


def _values() -> Iterator[Case]:
    """Numbers that are none, kinds that there are not."""
    for name, value in NUMBERS.items():
        yield case(f"value-{name}", sql(put("trial_values", "value", value)))
        yield case(f"param-{name}", sql(put("trial_params", "param_value", value)))
        yield case(f"number-{name}", sql(put("trials", "number", value, "number = 1")))
    yield case("value-type", sql(put("trial_values", "value_type", text(ESCAPE))))
    yield case("value-inf-type", sql("UPDATE trial_values SET value = null, value_type = 'INF_NEG';"))
    yield case("values-none", sql("DELETE FROM trial_values;"))
    second = "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (1, 1, 3.0, 'FINITE');"
    yield case("values-many", sql(second))
    direction = "INSERT INTO study_directions (study_id, direction, objective) VALUES (1, 'MINIMIZE', 1);"
    yield case("directions-two", sql(direction))
    yield case("directions-none", sql("DELETE FROM study_directions;"))
    yield case("direction", sql(put("study_directions", "direction", "'MAXIMIZE'")))
    yield case("direction-text", sql(put("study_directions", "direction", text(ESCAPE))))
    yield case("params-none", sql("DELETE FROM trial_params;"))
    yield case("param-name", sql(put("trial_params", "param_name", text(ESCAPE))))
    yield case("param-beyond", sql(put("trial_params", "param_value", "7.0")))


def _distributions() -> Iterator[Case]:
    own = {"low": 0.0001, "high": 0.1, "step": None, "log": False}
    for name, value in {
        "text": "x",
        "nothing": {},
        "class": {"name": "os.system", "attributes": own},
        "markup": {"name": MARKUP, "attributes": own},
        "attributes": {"name": "FloatDistribution", "attributes": {"low": ESCAPE}},
        "more": {"name": "FloatDistribution", "attributes": {**own, "x": 1}},
        "huge": {"name": "FloatDistribution", "attributes": {**own, "high": HUGE}},
        "choices": {"name": "CategoricalDistribution", "attributes": {"choices": [[1], {"a": ESCAPE}]}},
        "whole": {"name": "IntDistribution", "attributes": {"low": 0, "high": 1, "step": 1, "log": False}},
        "deep": "[" * 10**5,
    }.items():
        yield case(f"distribution-{name}", sql(put("trial_params", "distribution_json", text(value))))


def _of(key: str, value: object) -> Callable[[Place], None]:
    """Trials say this of their job or their result."""
    found = value if value == "{" else json.dumps(value)
    return sql(put("trial_user_attributes", "value_json", text(found), f"key = '{key}'"))


def _attributes() -> Iterator[Case]:
    """What gencli itself keeps in a study."""
    for name, value in {"text": ESCAPE, "list": [1], "null": None, "number": 1e400, "no-json": "{"}.items():
        found = value if value == "{" else json.dumps(value)
        yield case(f"search-{name}", sql(put("study_user_attributes", "value_json", text(found))))
        yield case(f"job-{name}", _of("job", value))
        yield case(f"result-{name}", _of("result", value))
    job = {"id": "x", "host": "h", "run": "/r", "sweep": "s"}
    odd = {"escape": ESCAPE, "list": [1], "markup": MARKUP}
    for key in job:
        for name, value in {**odd, "nul": "a\x00b", "long": "x" * 999}.items():
            yield case(f"job-{key}-{name}", _of("job", {**job, key: value}))
    for key in ("nll", "se", "unit", "bound", "steps", "n_examples", "bits_per_dim"):
        for name, value in {**odd, "huge": HUGE}.items():
            yield case(f"result-{key}-{name}", _of("result", {"nll": 1.0, "bound": "exact", key: value}))
    into = "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, 'measured', {});"
    for name, value in {"text": ESCAPE, "number": 7, "list": [ESCAPE, {}], "null": None}.items():
        yield case(f"measured-{name}", sql(into.format(text(json.dumps(value)))))
    yield case("study-name", sql(put("studies", "study_name", text(ESCAPE))), verbs=GOING)
    yield case("study-named", sql(put("studies", "study_name", text(MARKUP))), f"search.study='{MARKUP}'")


def _states() -> Iterator[Case]:
    """Trials that run, wait, have failed; many of them."""
    for state in ("RUNNING", "WAITING", "FAIL", "PRUNED", "COMPLETE", ESCAPE, ""):
        name = state.lower() if state.isalpha() else "text" if state else "empty"
        change = sql(put("trials", "state", text(state)), "DELETE FROM trial_values;")
        yield case(f"state-{name}", change, verbs=GOING if state in ("RUNNING", "WAITING") else ENDED)
    cause = "INSERT INTO trial_user_attributes (trial_id, key, value_json) SELECT trial_id, 'cause', {} FROM trials;"
    for name, value in {"escape": ESCAPE, "list": [1], "markup": MARKUP}.items():
        change = sql(put("trials", "state", "'FAIL'"), cause.format(text(json.dumps(value))))
        yield case(f"cause-{name}", change)
    count = "WITH RECURSIVE n(x) AS (SELECT 2 UNION ALL SELECT x + 1 FROM n WHERE x < 2999)"
    for state in ("FAIL", "PRUNED"):
        many = sql(f"{count} INSERT INTO trials (number, study_id, state) SELECT x, 1, '{state}' FROM n;")
        yield case(f"many-{state.lower()}", many, "search.trials=3000")
    yield case("times", sql(put("trials", "datetime_start", text(ESCAPE))))
    yield case("heartbeat", sql(f"INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (1, {text(ESCAPE)});"))
    step = "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
    yield case("intermediate", sql(f"{step} VALUES (1, {text(ESCAPE)}, 'x', 'FINITE');"))


def _cma_pickle(place: Place) -> None:
    sql(system("cma:optimizer:0", pickle.dumps(Payload(place.mark)).hex()))(place)


def _samplers() -> Iterator[Case]:
    """What samplers keep in a study: the next trial reads it."""
    yield case("cmaes-pickle", _cma_pickle, *MORE, "search=cmaes", verbs=GOING)
    for name, key, value in (
        ("text", "cma:optimizer:0", "zz"),
        ("number", "cma:optimizer:0", 1),
        ("generation", "cma:generation", ESCAPE),
    ):
        yield case(f"cmaes-{name}", sql(system(key, value)), *MORE, "search=cmaes", verbs=GOING)
    grid = sql(system("grid_id", ESCAPE), system("search_space", 1))
    yield case("grid", grid, "search=grid", "optimizer.lr=choice(0.01,0.02)", verbs=GOING)
    yield case("constraints", sql(system("constraints", ESCAPE)), *MORE, "search=tpe", verbs=GOING)


def _lines(line: int, key: str, value: object) -> Callable[[Place], None]:
    """A line of a good journal says this."""

    def change(place: Place) -> None:
        lines = [json.loads(each) for each in good(journal=True).splitlines()]
        lines[line][key] = value
        alone("x.log", "".join(json.dumps(each) + "\n" for each in lines).encode())(place)

    return change


def _journals() -> Iterator[Case]:
    yield case("journal-good", alone("x.log", lambda: good(journal=True)), *JOURNAL)
    for name, data in {
        "garbage": b"\x00\xff" * 999 + b"\n",
        "pickle": pickle.dumps([1]) + b"\n",
        "list": b"[1]\n" * 3,
        "number": b"1\n",
        "nothing": b"{}\n",
        "code": b'{"op_code": 99, "worker_id": "x"}\n',
        "code-text": b'{"op_code": "x", "worker_id": {}}\n',
        "deep": b"[" * 10**5 + b"\n",
        "half": b'{"op_code": 0, "worker',
        "nan": b'{"op_code": NaN, "worker_id": 1}\n{"op_code": 0}\n',
    }.items():
        yield case(f"journal-{name}", alone("x.log", data), *JOURNAL)
    kept = ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values", "values", "value", "state")
    for key in kept:
        for name, value in {"text": ESCAPE, "list": [1, ESCAPE], "null": None, "nan": float("nan")}.items():
            yield case(f"journal-{key}-{name}", _lines(3, key, value), *JOURNAL)
    for line, key in ((0, "study_name"), (0, "directions"), (1, "user_attr"), (2, "study_id"), (2, "datetime_start")):
        for name, value in {"text": ESCAPE, "list": [1], "huge": HUGE}.items():
            missing = key == "study_name" or (key == "study_id" and name != "list")  # trials are left to be trained
            change = _lines(line, key, value)
            yield case(f"journal-{line}-{key}-{name}", change, *JOURNAL, verbs=GOING if missing else ENDED)
    yield case("journal-fifo", instead("x.log", os.mkfifo), *JOURNAL)
    yield case("journal-folder", instead("x.log", Path.mkdir), *JOURNAL)
