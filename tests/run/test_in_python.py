"""Runs in Python and in notebooks: how a run shows itself, its tables and pictures, and its weights without gencli."""

import json
import shutil
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

import gencli
from gencli.config import stored
from gencli.core.errors import UsageError
from gencli.report.listing import line_of
from gencli.run import plain_weights
from gencli.sweeps import progress
from tests.runs import ROOT

RUNS = ROOT / "tests" / "golden" / "runs"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run(tmp_path):
    """A copy of a golden run, which may be changed."""
    return shutil.copytree(RUNS / "nice", tmp_path / "nice")


def test_a_run_in_one_line(run):
    assert repr(gencli.load(run)).endswith("model=nice, data=moons, finished, test NLL = 3.193 nats (exact))")


def test_a_text_in_place_of_a_list_is_no_list_of_letters(run):
    with pytest.raises(UsageError, match=r"^data=mons: there is no such data"):
        gencli.train("model=maf data=mons")
    with pytest.raises(UsageError, match="Did you mean 'mmd'"):
        gencli.load(run).measure("mdm")


def test_a_model_without_an_exact_likelihood_names_what_measures_it():
    with pytest.raises(
        UsageError, match=r"^model=cnf has no exact likelihood: run.nll\(\) measures it by estimator=ode$"
    ):
        gencli.load(RUNS / "cnf").log_prob(torch.zeros(1, 2))


def test_its_own_record_gives_the_error(run):
    record = {"metric": "nll", "value": 3.5, "split": "test", "bound": "upper", "unit": "nats", "se_examples": 0.25}
    record |= {"estimator": "exact", "flags": ["unbounded likelihood"]}
    (run / "eval").mkdir()
    (run / "eval" / "test-exact.json").write_text(json.dumps(record))
    assert "test NLL <= 3.500 ± 0.250 nats (upper bound; unbounded likelihood)" in repr(gencli.load(run))


@pytest.mark.parametrize("estimator", ["exact-masks4", "my.bound+"])
def test_its_own_record_may_be_of_settings_or_of_a_name_with_dots(run, estimator):
    """Else run.json's shorter copy would be told, without error and flags."""
    record = {"metric": "nll", "value": 3.5, "split": "test", "bound": "upper", "unit": "nats", "estimator": estimator}
    info = json.loads((run / "run.json").read_text()) | {"result": record, "seal": None}
    (run / "run.json").write_text(json.dumps(info))
    (run / "eval").mkdir()
    whole = record | {"se_examples": 0.25, "flags": ["in-sample"]}
    (run / "eval" / f"test-{estimator}.json").write_text(json.dumps(whole))
    told = "test NLL <= 3.500 ± 0.250 nats (upper bound; in-sample)"
    assert told in repr(gencli.load(run))
    assert progress.result(run) == "test NLL <= 3.500 ± 0.250 nats (in-sample)"
    assert line_of(run).flags == ("in-sample",)


@pytest.mark.parametrize(
    ("split", "estimator"), [("../eval/test", "exact"), ("test", "../test-exact"), ("test", "a/b")]
)
def test_no_file_elsewhere_is_taken_for_its_own_record(run, split, estimator):
    result = {"split": split, "estimator": estimator, "value": 9.0, "bound": "exact", "unit": "nats"}
    (run / "run.json").write_text(json.dumps({"status": "finished", "result": result}))
    (run / "eval").mkdir()
    assert stored.own_record(run) == result


def test_a_page_shows_the_newest_samples_and_runs_nothing_of_a_strangers(run, tmp_path):
    record = {"metric": "nll", "value": 3.5, "split": "test", "bound": "upper", "unit": "nats", "estimator": "exact"}
    (run / "eval").mkdir()
    (run / "eval" / "test-exact.json").write_text(json.dumps(record | {"flags": ["<script>alert(1)</script>"]}))
    samples = run / "samples"
    samples.mkdir()
    (samples / "a.png").write_bytes(b"no picture")
    (tmp_path / "secret.png").write_bytes(PNG + b"secret")
    (samples / "link.png").symlink_to(tmp_path / "secret.png")
    page = gencli.load(run)._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<img" not in page
    (samples / "b.png").write_bytes(PNG + b"pixels")
    assert 'src="data:image/png;base64,iVBORw0KGgpwaXhlbHM="' in gencli.load(run)._repr_html_()


def test_a_damaged_run_says_so(run):
    opened = gencli.load(run)
    (run / "run.json").write_text("{")
    assert "damaged" in repr(opened)
    assert "no number yet" in opened._repr_html_()


def test_history_is_a_table(run):
    opened = gencli.load(run)
    history = opened.history
    assert isinstance(history, pd.DataFrame)
    assert history.to_dict("records")[-1]["step"] == opened.metrics[-1]["step"]
    assert {"step", "split", "seconds", "weights", "loss"} <= {*history.columns}


def test_runs_are_compared_as_a_table(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    for folder, value in ((run, 3.5), (other, 3.25)):
        record = {"metric": "nll", "value": value, "split": "test", "bound": "exact", "unit": "nats"}
        (folder / "eval").mkdir()
        (folder / "eval" / "test-exact.json").write_text(json.dumps(record | {"estimator": "exact"}))
    table = gencli.compare(gencli.load(run), other)
    assert table["rank"].tolist() == [1, 2]
    assert table["value"].tolist() == [3.25, 3.5]
    assert table["apart"].isna().all()
    with pytest.raises(UsageError, match="no run has a result on split=val yet"):
        gencli.compare(run, split="val")


@pytest.mark.slow
def test_a_picture_is_handed_back(run):
    vae = gencli.load(RUNS / "vae")
    drawn = vae.picture("latent", n=20)
    assert min(drawn.size if hasattr(drawn, "size") else drawn.get_size_inches()) > 0
    assert not (RUNS / "vae" / "samples").exists()
    with pytest.raises(UsageError, match="picture=latent cannot show model=nice: it needs LatentVariable"):
        gencli.load(run).picture("latent")
    with pytest.raises(UsageError, match=r"picture\.sidee: .*Did you mean 'side'"):
        vae.picture("latent", sidee=3)


def test_weights_need_no_gencli(run, tmp_path, monkeypatch):
    """The loader that the documentation shows has the density of the run."""
    opened = gencli.load(run)
    file = opened.export(tmp_path / "model.safetensors")
    with safe_open(file, "pt") as kept:
        about = json.loads(kept.metadata()["about"])
    assert about["shape"] == [2]
    assert about["weights"] == opened.parts.weights
    code = textwrap.dedent(plain_weights.__doc__.split("::\n\n", 1)[1])
    assert len(code.strip().splitlines()) <= 24
    monkeypatch.chdir(tmp_path)
    loaded = {}
    exec(code, loaded)
    x = opened.sample(20)
    torch.testing.assert_close(loaded["log_prob"](x), opened.log_prob(x), rtol=0, atol=1e-5, check_dtype=False)
    with pytest.raises(UsageError, match="export: "):
        opened.export(tmp_path / "nowhere" / "model.safetensors")


def test_array_likes_are_taken_everywhere(run):
    opened = gencli.load(run)
    x = opened.sample(4)
    own = opened.log_prob(x)
    for like in (x.numpy(), x.tolist(), pd.DataFrame(x.numpy(), columns=["a", "b"]), [row.numpy() for row in x]):
        torch.testing.assert_close(opened.log_prob(like), own, rtol=0, atol=0)


def test_a_table_is_read_by_the_names_of_its_columns():
    mixed = gencli.load(RUNS / "made_mixed")
    x = mixed.sample(6)
    table = pd.DataFrame(mixed.parts.dataset.to_rows(x))
    turned = table[table.columns[::-1]].assign(other=np.arange(6))
    torch.testing.assert_close(mixed.log_prob(turned), mixed.log_prob(x), rtol=0, atol=0)
    with pytest.raises(UsageError, match=f"x has no column '{table.columns[0]}'"):
        mixed.log_prob(table.drop(columns=table.columns[0]))
