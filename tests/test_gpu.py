"""Golden runs on a GPU: they say there what they say on a CPU, and their training is one CUDA graph a step.

Rows of a measurement and samples have streams of their own that are the same on every device (``RowNoise``), so that
numbers agree to rounding, of estimates by chains and solvers too.
"""

import json

import pytest
import torch
from golden import asked, cases
from test_golden import EXPECTED, near

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

NEAR = 1e-4
"""Of what a run says: sums in another order, and what solvers and chains make of that."""


def numbers(says):
    """What is compared: the nats of each row, samples, log p."""
    kept = {key: value for key, value in says.items() if key in ("samples", "log_prob") or "=" in key}
    return {key: {"nats": value["nats"]} if "nats" in value else value for key, value in kept.items()} | (
        {"nll": says["nll"]["nats"]} if "nll" in says else {}
    )


@pytest.mark.parametrize("name", cases.CASES)
def test_a_golden_run_says_the_same(name, tmp_path):
    cases.stage(tmp_path, name)
    wanted = EXPECTED[name]["opened"]
    near(numbers(asked.opened(name, wanted["samples"]["values"], "cuda")), numbers(wanted), NEAR)


@pytest.mark.parametrize("name", [name for name, case in cases.CASES.items() if case.estimators or case.samplers])
def test_other_estimators_and_samplers_say_the_same(name, tmp_path):
    cases.stage(tmp_path, name)
    near(numbers(asked.others(name, "cuda")), numbers(EXPECTED[name]["others"]), NEAR)


@pytest.mark.parametrize("name", cases.CASES)
def test_training_goes_on_where_it_stopped(name, tmp_path, capsys):
    cases.stage(tmp_path, name)
    own = [word for word in cases.overrides(name) if not word.startswith(("estimator", "~estimator", "device="))]
    longer = ["trainer.max_steps=24", "trainer.eval_every=12"]
    asked.command(["train", *own, *longer, "device=cuda", "~estimator", "run_dir=fresh"])
    said = asked.command(["train", "resume=fresh", "device=cuda", "trainer.max_steps=40", "~estimator"])
    assert "no CUDA graph" not in (tmp_path / "fresh" / "train.log").read_text(encoding="utf-8") + said
    lines = (tmp_path / "fresh" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert max(json.loads(line)["step"] for line in lines) == 40 or name.startswith("ngram")
