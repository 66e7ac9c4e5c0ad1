"""The README's example of an own model works as printed, and without trust it is refused."""

import subprocess
import sys

import pytest
from pages import ROOT, blocks, commands, text

import gencli


def test_the_readme_is_short_and_its_picture_light():
    assert len(text("README.md").splitlines()) <= 150
    assert (ROOT / "docs/pictures/hero.png").stat().st_size <= 300_000


@pytest.mark.slow
def test_an_own_model_works_as_printed(tmp_path, monkeypatch):
    code = next(block for block in blocks("README.md", "python") if block.startswith("# myflows/__init__.py"))
    config = next(block for block in blocks("README.md", "yaml") if block.startswith("# conf/model/laplace.yaml"))
    words = next(words for words in commands("README.md") if "--config-dir" in words)
    assert len(code.splitlines()) + len(config.splitlines()) < 30
    for printed in (code, config):
        path = tmp_path / printed.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(printed)
    fast = ["trainer.max_steps=20", "trainer.eval_every=10", "logger=none", "run_dir=run", "device=cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "gencli", *words, *fast], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NLL = " in done.stdout  # an exact number on real data, called exact
    run = gencli.load("run", trust=["myflows"])
    assert run.sample(5).shape == (5, 2)
    assert run.results[0]["bound"] == "exact"


def test_without_trust_it_is_refused(tmp_path):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf/model/evil.yaml").write_text("_target_: evil.Model\n")
    (tmp_path / "evil.py").write_text("open('ran', 'w')\n")
    done = subprocess.run(
        [sys.executable, "-m", "gencli", "train", "--config-dir", "conf", "model=evil", "data=moons"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "trust=[evil]" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "outputs").exists()
