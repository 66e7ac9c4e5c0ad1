"""Every gencli command that a page prints is one: it composes, its parts fit each other, and the run that it needs.

Commands about a run are tried with the golden runs: one of them has to take it. What a command does then is tested
where its parts are.
"""

import json
import re
import shutil

import pytest
from pages import DOCS, ROOT, commands

from gencli.cli.main import main
from gencli.config.compose import compose
from gencli.config.multirun import multirun
from gencli.core.errors import UsageError

GOLDEN = ROOT / "tests" / "golden" / "runs"
RUNS = [
    "realnvp",
    "diffusion_guided",
    "vae_images",
    "pixelcnn",
    "transformer_text",
    "ebm",
    "made_mixed",
    "realnvp_context",
]
RUNS += ["discrete_ebm"]
ABOUT = re.compile(r"(run|resume|init_from)=(latest|RUN|STUDENT)\b")
OWN = ("myflows", "mine")
RECORD = {
    "metric": "nll",
    "unit": "nats",
    "bits_per_dim": 1.8,
    "bound": "exact",
    "estimator": "exact",
    "se_examples": 0.1,
}
RECORD |= {"n_examples": 40, "protocol": {"data": "moons", "support": "real"}, "ledger": [], "settings": {}}


def stories(pages):
    """Their commands, each once; those of the pages' own plug-ins are run by the tests of these examples."""
    found = dict.fromkeys(words for page in pages for words in commands(page))
    return [
        words
        for words in found
        if not any(name in word for word in words for name in OWN) and "--config-dir" not in words
    ]


def first_job(word):
    """The first value of a sweep's list: seed=0,1,2 is seed=0."""
    return re.sub(r"=([\w.-]+),[\w.,-]+$", r"=\1", word)


def composed(words):
    verb, *rest = words
    if verb == "train" and "-m" in rest:
        return jobs_of([word for word in rest if word != "-m"])
    sweep = "-m" in rest
    rest = [first_job(word) if sweep else word for word in rest if word not in ("-m", "--cfg", "job")]
    if not any(ABOUT.search(word) for word in rest):
        return [compose(verb, rest)]
    refusals = []
    for name in RUNS:
        try:
            return [compose(verb, [ABOUT.sub(rf"\1={GOLDEN / name}", word) for word in rest])]
        except UsageError as error:
            refusals.append(f"{name}: {error}")
    raise AssertionError("\n".join(refusals))


def jobs_of(words):
    """The configs of a sweep's jobs, of one seed, or that of a search's first trial."""
    plan = multirun(words, [re.sub(r"^seed=.*", "seed=0", word) for word in words], [])
    refusals = [job.refusal for job in plan.jobs if job.config is None]
    assert not refusals
    return [job.config for job in plan.jobs] or [plan.search.first]


def light(words, capsys):
    """Commands that only read, in a folder with two runs."""
    shell = words.index(">") if ">" in words else None
    given = ["outputs/a/1" if word == "RUN" else word for word in words[:shell]]
    assert main(given) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.strip()


def check(words, capsys):
    if words[0] in ("train", "sample", "eval") and "--help" not in words:
        for config in composed(words):
            assert config["choices"]
    else:
        light(words, capsys)


@pytest.fixture
def two_runs(tmp_path):
    for place, value in (("a/1", 2.5), ("b/2", 2.75)):
        run = tmp_path / "outputs" / place
        shutil.copytree(GOLDEN / "realnvp", run)
        (run / "eval").mkdir(exist_ok=True)
        for split in ("test", "val"):
            record = RECORD | {"value": value, "split": split, "split_sha256": split}
            (run / "eval" / f"{split}-exact.json").write_text(json.dumps(record))


@pytest.mark.parametrize("words", stories(["README.md"]), ids=" ".join)
def test_commands_of_the_readme(words, two_runs, capsys):
    check(words, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("words", sorted({*stories(DOCS)} - {*stories(["README.md"])}), ids=" ".join)
def test_commands_of_the_docs(words, two_runs, capsys):
    check(words, capsys)


def test_a_command_that_is_none_is_found():
    with pytest.raises(UsageError, match="modle"):
        composed(("train", "modle=maf"))
    with pytest.raises(AssertionError, match="tempo"):
        composed(("sample", "run=latest", "sampler.tempo=2"))
