"""The README's example of an own model works as printed, and what the pages name is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gencli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/architecture.md",
    "docs/reliability.md",
    "docs/security.md",
    "docs/search.md",
    "docs/sweeps.md",
]


def blocks(language):
    return [code for named, code in re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL) if named == language]


def named(text):
    """Relative links, and paths of the project within `code`."""
    yield from re.findall(r"\]\((?!https?:)([^)#]+)", text)
    for code in re.findall(r"`([^`\n]+)`", text):
        yield from re.findall(r"(?<![\w/.])(?:gencli|configs|docs|tests|scripts|benchmarks)/[\w/.-]*\w", code)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page):
    path = ROOT / page
    missing = {name for name in named(path.read_text()) if not any((at / name).exists() for at in (path.parent, ROOT))}
    assert missing <= {"benchmarks/results"}  # made by the first benchmark
    assert {*named("[a](docs/b.md) `scripts/none x`, `python tests/c.py`, `other/tests`")} == {
        "docs/b.md",
        "scripts/none",
        "tests/c.py",
    }


def test_an_own_model_works_as_printed(tmp_path, monkeypatch):
    code = next(block for block in blocks("python") if block.startswith("# myflows/__init__.py"))
    config = next(block for block in blocks("yaml") if block.startswith("# conf/model/laplace.yaml"))
    command = next(line for block in blocks("") for line in block.splitlines() if "--config-dir" in line)
    assert len(code.splitlines()) + len(config.splitlines()) < 30
    for text in (code, config):
        path = tmp_path / text.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    words = command.replace("'", "").split()[1:]
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
