"""A part of the campaign of damaged files; scripts/campaign damage has the whole."""

from __future__ import annotations

import json
import sys

import pytest

from campaigns import damage
from campaigns.damage import DAMAGES, VERBS, Bench, Damage, drawn, same

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(damage, "VERBS", {name: VERBS[name] for name in ("sample", "compare", "ls", "load")})
        yield Bench(tmp_path_factory.mktemp("damage"), {"run": "twin"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "how", "verb", "says"),
    [
        ("config.yaml", "digit", "sample", "config.yaml is damaged: it does not match its hash"),
        ("config.yaml", "swap", "sample", "best.safetensors is of another run than run/config.yaml"),
        ("checkpoints/best.safetensors", "swap", "load", "is of another run than"),
        ("eval/test-exact.json", "digit", "load", "test-exact.json is damaged"),
        ("eval/test-exact.npz", "swap", "compare", ""),
        ("eval/test-exact.json", "swap", "ls", ""),
        ("run.json", "digit", "ls", ""),
    ],
)
def test_damage_is_told_or_changes_no_number(bench, file, how, verb, says):
    outcome = bench.tried(Damage(f"self/{how}", "run", file, how, verb, "0"))
    assert not outcome.failures, outcome
    assert says in outcome.line
    assert outcome.code == (0 if not says else 2)


@pytest.mark.slow
def test_the_checker_sees_a_wrong_number(bench, monkeypatch):
    def edited(file, draw, other):
        found = json.loads(file.read_text())
        del found["seal"]
        file.write_text(json.dumps(found | {"value": found["value"] + 1}))

    monkeypatch.setitem(DAMAGES, "edited", edited)
    outcome = bench.tried(Damage("self/edited", "run", "eval/test-exact.json", "edited", "compare", "0"))
    assert any("another answer" in failure for failure in outcome.failures)


def test_same_is_strict():
    good = {"a": {"value": 1.0, "se": 0.1}, "b": {"value": 2.0, "se": 0.1}}
    assert same("compare", good, good)
    assert same("compare", {"b": good["b"]}, good)  # a is told apart
    assert same("ls", good | {"a": {"value": None, "se": 0.2}}, good)
    assert not same("ls", good | {"a": {"value": 1.5, "se": 0.1}}, good)
    assert not same("load", [["x"], [1.0]], [[], [1.0]])


def test_tries_are_drawn_from_the_seed():
    files = {"run": ["run.json", "eval/a.json"], "table": ["data.json"]}
    assert drawn(files, 1, 30) == drawn(files, 1, 60)[:30]
    assert {each.how for each in drawn(files, 0, 300)} == {*DAMAGES}
