"""`gencli eval metrics=[...]`, `Run.measure`, `gencli compare` and the picture of neighbours on a small run."""

import csv
import io
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

import gencli
from gencli.cli import completion
from gencli.cli import main as cli
from gencli.core import distributed
from gencli.core.errors import UsageError

TINY = [
    "data=moons",
    "data.train=2000",
    "data.val=100",
    "data.test=300",
    "model=realnvp",
    "model.net.vector.hidden=[8]",
]
FEW = ["trainer.max_steps=4", "trainer.eval_every=4", "trainer.log_every=4", "logger=none", "n=0", "device=cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics") / "run"
    gencli.train([*TINY, *FEW, f"run_dir={folder}"])
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a small run of moons, without the measurement of its training."""
    folder = shutil.copytree(trained, tmp_path / "run")
    for file in (folder / "eval").iterdir():
        file.unlink()
    return folder


def record(run, name):
    return json.loads((run / "eval" / f"test-{name}.json").read_text())


@pytest.mark.slow
def test_metrics_besides_the_nll_and_instead_of_it(run, capsys):
    few = [f"run={run}", "metrics=[mmd,sliced_wasserstein]", "n=60", "metrics.mmd.permutations=19", "device=cpu"]
    assert cli.main(["eval", *few, "metrics.sliced_wasserstein.projections=7", "sampler.temperature=0.5"]) == 0
    out = capsys.readouterr().out
    assert "test NLL" in out
    assert "lower is better; 60 samples, 300 examples" in out
    first = record(run, "mmd-permutations=19-n=60-temperature=0.5")
    assert (run / "eval" / "test-exact.json").exists()
    assert {"metric", "value", "se", "split_sha256", "checkpoint_sha256", "weights", "seconds"} <= {*first}
    assert (first["n_samples"], first["n_reference"], first["seed"]) == (60, 300, 0)
    assert first["settings"] == {"bandwidth": None, "scales": [0.25, 0.5, 1, 2, 4], "permutations": 19}
    assert (first["sampler"], first["sampler_settings"]["temperature"]) == ("direct", 0.5)
    assert first["protocol"]["space"] == "standardised by the reference examples"
    assert record(run, "sliced_wasserstein-projections=7-n=60-temperature=0.5")["settings"] == {"projections": 7}

    (run / "eval" / "test-exact.json").unlink()
    assert cli.main(["eval", *few, "estimator=null"]) == 0
    assert not (run / "eval" / "test-exact.json").exists()
    second = record(run, "mmd-permutations=19-n=60")
    assert second["value"] != first["value"]  # another temperature, and both are there
    assert record(run, "mmd-permutations=19-n=60-temperature=0.5") == first

    measured = gencli.load(run, device="cpu").measure(["mmd"], n=60, mmd={"permutations": 19})
    assert measured["mmd"]["value"] == second["value"]
    assert measured["mmd"]["n_reference"] == 300


def test_without_an_estimator_metrics_are_all_there_is(run, capsys):
    """As of a generator: an NLL is refused, metrics are not, and compare shows them."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config |= {"estimator": None, "choices": {**config["choices"], "estimator": None}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["eval", f"run={run}", "device=cpu"]) == 2
    assert "metrics=[mmd,c2st] compare samples" in capsys.readouterr().err
    assert cli.main(["eval", f"run={run}", "metrics=[sliced_wasserstein]", "device=cpu"]) == 0
    assert [path.name for path in (run / "eval").iterdir()] == ["test-sliced_wasserstein.json"]
    assert cli.main(["compare", str(run)]) == 0
    out = capsys.readouterr().out
    assert "sliced_wasserstein ↓" in out
    assert "no result" not in out


REFUSED = [
    ("metrics=[mdm]", "metric=mdm: there is no such metric. Did you mean 'mmd'"),
    ("metrics=[mmd] metrics.mmd.bandwith=1", "Did you mean 'bandwidth'?"),
    ("metrics=[mmd] metrics.mmd.bandwidth=-1", "metrics.mmd.bandwidth=-1: a number above 0 or null is needed"),
    ("metrics.mmd.bandwidth=1", "choose it with metrics=[mmd]"),
    ("metric=[mmd]", "Did you mean 'metrics'?"),
    ("metrics=mmd,c2st", "add -m"),
    ("metrics=[modes]", "needs data with known modes (eight_gaussians, twentyfive_gaussians); data=moons has none"),
    ("metrics=[classifier_frechet]", "data=moons has no labels"),
    ("metrics=[kid]", "needs images"),
    ("metrics=[mmd] split=tset", "split=tset: train, val, test or all"),
    ("metrics=[mmd] n=0", "at least 1"),
    ("metrics=[mmd] n=-1", "n=-1: an integer of at least 0"),
    ("metrics=[mmd] n=2", "at least 4 of each"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_refusals(run, capsys, words, message):
    assert cli.main(["eval", f"run={run}", "estimator=null", "device=cpu", *words.split()]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) <= 2
    assert not list((run / "eval").iterdir())


@pytest.mark.slow
def test_refusals_in_python_and_under_torchrun(run, monkeypatch):
    opened = gencli.load(run, device="cpu")
    with pytest.raises(UsageError, match="options for c2st"):
        opened.measure(["mmd"], c2st={"folds": 3})
    with pytest.raises(UsageError, match=r"metrics\.mmd\.bandwith.*Did you mean 'bandwidth'"):
        opened.measure(["mmd"], mmd={"bandwith": 3})
    opened.parts.sampler = replace(opened.parts.sampler, classes=[3])
    with pytest.raises(UsageError, match=r"take sampler\.classes=null"):
        opened.measure(["mmd"], n=50)
    monkeypatch.setattr("gencli.core.distributed.join", lambda: distributed.World(0, 0, 2))
    assert cli.main(["eval", f"run={run}", "metrics=[mmd]"]) == 2


def test_completion_and_list(capsys):
    assert completion.candidates(["eval", "metrics=[mm"]) == ["metrics=[mmd"]
    assert "metrics=[mmd,c2st" in completion.candidates(["eval", "metrics=[mmd,c"])
    assert completion.candidates(["eval", "metrics.precision"]) == ["metrics.precision_recall.k="]
    assert completion.candidates(["eval", "met"]) == ["metrics.", "metrics=["]
    assert completion.candidates(["train", "met"]) == []
    assert cli.main(["list", "metric"]) == 0
    out = capsys.readouterr().out
    assert "needs: data with known modes" in out
    assert "better: higher" in out


def sample_record(metric="mmd", value=0.01, se=0.003, better="lower", **more):
    return {
        "metric": metric,
        "value": value,
        "se": se,
        "better": better,
        "diagnostics": {"p_value": 0.5, "se_hidden": 1.0},
        "settings": {"bandwidth": None},
        "split": "test",
        "split_sha256": "abc",
        "n_samples": 100,
        "n_reference": 200,
        "protocol": {"data": "digits", "space": "x / (K - 1)"},
        "sampler": "direct",
        "sampler_settings": {"temperature": 0.7, "classes": None},
        "weights": "ema",
        "seed": 0,
    } | more


@pytest.fixture
def make(tmp_path):
    def make_run(name, *records):
        folder = tmp_path / name
        (folder / "eval").mkdir(parents=True)
        (folder / "run.json").write_text('{"status": "finished"}')
        (folder / "config.yaml").write_text("{}")
        for r in records:
            (folder / "eval" / f"test-{r.get('estimator', r['metric'])}.json").write_text(json.dumps(r))
        return folder

    return make_run


NLL = {
    "metric": "nll", "value": 90.0, "unit": "nats", "bits_per_dim": 2.0, "bound": "upper", "estimator": "exact",
    "se_examples": 1.0, "split": "test", "split_sha256": "abc", "protocol": {"data": "digits"}, "weights": "ema",
}  # fmt: skip


def test_compare_ranks_by_what_is_better(make, capsys):
    from gencli.report.compare import compare

    a = make("a", NLL, sample_record(), sample_record("modes", 7, None, "higher"))
    b = make("b", sample_record(value=0.02, se=0.004), sample_record("modes", 8, None, "higher"))
    c = make("c", sample_record(value=0.001, n_samples=50))
    d = make("d", sample_record(value=0.001, settings={"bandwidth": 2.0}))
    found = compare([c, b, a, d])
    names = [[row.run.name for row in rows] for rows in found.groups]
    assert names == [["a"], ["a", "b"], ["c"], ["d"], ["b", "a"]]
    assert found.reasons[0] == "metric is mmd, not nll"
    assert found.reasons[1:3] == ["n_samples is 50, not 100", "settings.bandwidth is 2.0, not None"]
    second = found.groups[1][1]
    assert (second.rank, second.difference) == (2, pytest.approx(0.01))
    assert second.difference_se == pytest.approx(math.hypot(0.003, 0.004))
    assert second.z == pytest.approx(2)
    assert found.groups[4][1].difference_se is None

    assert cli.main(["compare", "a", "b", "c", "d"]) == 0
    out = capsys.readouterr().out
    assert out.index("nats an example") < out.index("mmd ↓") < out.index("modes ↑")
    assert "direct temperature=0.7" in " ".join(out.split())
    assert "not comparable with the first table of mmd: n_samples is 50, not 100" in out
    assert "se_hidden" not in out
    table = out[: out.index("=  the NLL itself")]
    assert all(len(line.rstrip()) <= 100 for line in table.splitlines())
    assert cli.main(["compare", "a", "b", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["metric"] for row in rows} == {"nll", "mmd", "modes"}


def test_neighbours(tmp_path, run):
    """The nearest training example by a slow search, and a file that people can look at."""
    assert cli.main(["sample", f"run={run}", "picture=neighbours", "n=5", "device=cpu"]) == 0
    assert (run / "samples" / "neighbours-seed0.png").read_bytes()[:4] == b"\x89PNG"
    with np.load(run / "samples" / "neighbours-seed0.npz") as found:
        x, nearest, distances = found["samples"], found["neighbours"], found["distances"]
        held_out = found["held_out_distances"]
    opened = gencli.load(run, device="cpu")
    assert np.allclose(x, opened.sample(5).numpy(), atol=1e-6)
    test, train = (opened.parts.dataset.split(name).x.numpy().astype(float) for name in ("test", "train"))
    std = test.std(0, ddof=1)
    for row, near, distance in zip(x, nearest, distances, strict=True):
        d = np.sqrt((((train - row) / std) ** 2).sum(1))
        assert distance == pytest.approx(d.min(), rel=1e-3, abs=1e-5)
        assert np.allclose(near, train[d.argmin()], atol=1e-5)
    assert len(held_out) == 300
