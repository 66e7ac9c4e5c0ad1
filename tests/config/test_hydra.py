"""What gencli takes of Hydra beyond its documented interface: here another version of Hydra is noticed."""

import sys

import composing
import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore

import gencli.config.command
from gencli.config import catalog, notes, recipes, schema
from gencli.config.compose import compose, parse_overrides
from gencli.core.errors import UsageError


def test_the_parser_of_flags_has_those_that_are_read():
    args = get_args_parser().parse_intermixed_args(["a=1", "--cfg", "job", "-m", "b=2", "--config-dir", "x"])
    assert (args.overrides, args.cfg, args.multirun, args.config_dir) == (["a=1", "b=2"], "job", True, "x")
    assert (args.package, args.info, args.experimental_rerun) == (None, None, None)
    assert not args.hydra_help
    assert not args.shell_completion


@pytest.mark.parametrize(("flags", "name"), [([], "untouched"), (["-m"], "gencli train")])
def test_a_job_gets_its_config_from_both_ways_into_hydra(monkeypatch, flags, name):
    """One job is Hydra's ``run``; a sweep is ``hydra.main``, which reads its words from sys.argv."""
    seen = []

    def work(verb, config, sweep_dir):
        seen.append((verb, config["seed"], sys.argv[0]))

    own = ["untouched"]
    monkeypatch.setattr(sys, "argv", own)
    words = ["model=realnvp", "data=moons", "seed=41", *flags]
    assert gencli.config.command.call("train", words, work, lambda error: 1) == 0
    assert seen == [("train", 41, name)]
    assert sys.argv is own


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("train", ["model=maf", "data=moons", "trainer.max_steps=7"]),
        ("train", ["model=diffusion", "net@model.net=unet", "data=digits", "logger=[csv,tensorboard]", "~sampler"]),
        ("train", ["experiment=moons_diffusion", "data.train=300", "path@model.path=ve"]),
    ],
)
def test_what_tests_remember_of_a_composition_is_what_hydra_composes(verb, words):
    with composing.anew():
        plain, other = compose(verb, words), compose(verb, [*words, "seed=41", "optimizer.lr=0.5"])
    for _ in range(2):
        assert compose(verb, [*words, "seed=41", "optimizer.lr=0.5"]) == other
        assert compose(verb, words) == plain
    assert plain != other


def test_an_override_says_what_is_asked_of_it():
    one, swept, deleted, added = parse_overrides(["a.b=1", "run=x,y", "~sampler", "+c=2"])
    assert (one.key_or_group, one.value(), one.input_line) == ("a.b", 1, "a.b=1")
    assert swept.is_sweep_override()
    assert list(swept.sweep_string_iterator()) == ["x", "y"]
    assert deleted.is_delete()
    assert added.is_add()
    assert not one.is_force_add()


def test_the_store_of_types_is_the_one_that_composing_reads():
    schema.register()
    assert {"adam.yaml", "momentum.yaml"} == {*ConfigStore.instance().list("schema/optimizer")}


def test_hydra_does_not_record_several_choices_of_a_group():
    """If it did, ``compose.chosen`` would have nothing to add."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from gencli.config.locate import config_dir

    schema.register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        cfg = hydra_compose("train", ["logger=[tensorboard]"], return_hydra_config=True)
    assert cfg.hydra.runtime.choices.get("logger") is None
    assert list(cfg.hydra.overrides.task) == ["logger=[tensorboard]"]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("model=nope", "model=nope: there is no such model"),  # MissingConfigException.missing_cfg_file, .options
        ("net@model.x=mlp", "net@model.x: no such group here"),  # "Could not override ... No match in the defaults"
        ("model=made,maf", "Ambiguous value for argument 'model=made,maf': add -m"),
        ("a=[1", "cannot read 'a=[1'"),  # OverrideParseException.override
        ("trainer.nope=1", "trainer.nope: there is no such key in trainer"),  # ConfigAttributeError.parent_node
        ("trainer.log_every=x", "trainer.log_every=x: an integer of at least 1"),  # "could not be converted"
        ("seed=1.5", "seed=1.5: an integer is needed"),
    ],
)
def test_the_wording_that_is_explained(word, says):
    with pytest.raises(UsageError) as error:
        compose("train", [word])
    assert str(error.value).startswith(says)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["optimizer.lr=0.1", "seed=3"],
        ["model=made", "model.hidden=[3]", "data.path=${oc.env:HOME}", "data=csv"],
        ["+model.more=1", "optimizer.lr=1"],
        ["net@model.net=mlp", "model=flow_matching", "seed=4"],
        ["sampler=null", "~logger", "seed=1"],
    ],
)
def test_jobs_of_one_base_are_as_each_alone(words):
    bases = {}
    for own in (words, [*words, "trainer.patience=2"]):
        assert compose("train", own, (), bases) == compose("train", own)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["optimizer.lr=x", "optimizer.lq=1", "seed=null"])
def test_jobs_of_one_base_are_refused_as_each_alone(word):
    bases = {}
    compose("train", ["seed=1"], (), bases)
    with pytest.raises(UsageError) as alone:
        compose("train", [word])
    with pytest.raises(UsageError) as shared:
        compose("train", [word], (), bases)
    assert str(shared.value) == str(alone.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "experiment=gray_toys_ed objective=pcd",
            r"sets objective\.samples, which objective=pcd has not.*~objective\.samples$",
        ),
        (
            "experiment=moons_flow_matching model=realnvp",
            r"sets model\.net\.vector\.width, which model=realnvp has not",
        ),
        (
            "experiment=binarized_mnist_ebm net@model.net=energy",
            r"sets model\.net\.width, model\.net\.blocks, which net@model\.net=energy has not.*~model\.net\.blocks$",
        ),
        (
            "experiment=mnist_ebm sampler=langevin",
            r"sets sampler\.step, sampler\.steps, which was said of sampler=mala, not of sampler=langevin.*"
            r"~sampler\.step ~sampler\.steps or give values of your own$",
        ),
        ("experiment=crabs_gmm model=made", r"sets model\.components, which was said of model=gmm, not of model=made"),
        (
            "experiment=binarized_mnist_ebm net@model.net=resnet",
            r"sets model\.net\.width, model\.net\.blocks, which was said of net@model\.net=residual_energy, not of ",
        ),
        (
            "experiment=binarized_mnist_vae estimator=importance",  # which model=vae has brought, not the recipe
            r"sets estimator\.k, which estimator=importance has not",
        ),
        ("experiment=mnist_ebm net@model.net=mlp", r"sets model\.net\.image\.width, .*~model\.net\.image\.activation$"),
        (
            "experiment=digits_bits_ebm objective=energy_discrepancy",
            "chooses kernel@objective.kernel, which there is not with objective=energy_discrepancy",
        ),
    ],
)
def test_a_recipe_whose_part_is_changed_says_what_of_it_does_not_hold(words, says):
    """The command has not named these keys: that the class has none would not tell where they come from."""
    with pytest.raises(UsageError, match=f"^experiment={words.partition(' ')[0].partition('=')[2]} {says}"):
        compose("train", words.split())


def test_the_rest_of_a_recipe_holds_with_another_part():
    config = compose("train", ["experiment=gray_toys_ed", "objective=pcd", "~objective.samples"])
    assert config["choices"]["objective"] == "pcd"
    assert config["trainer"]["max_steps"] == 14_000


def test_values_of_ones_own_and_parts_of_the_same_class_keep_a_recipe():
    own = compose("train", ["experiment=mnist_ebm", "sampler=langevin", "sampler.step=0.4", "sampler.steps=200"])
    assert (own["sampler"]["step"], own["sampler"]["steps"]) == (0.4, 200)  # the recipe's, but typed
    freed = compose("train", ["experiment=crabs_gmm", "model=made", "~model.components"])
    assert freed["choices"]["model"] == "made"
    assert "components" not in freed["model"]
    alike = compose("train", ["experiment=mnist_ebm", "sampler=hmc"])  # mala is hmc of one leap
    assert (alike["sampler"]["leaps"], alike["sampler"]["steps"]) == (10, 200)


@pytest.mark.slow
def test_every_recipe_chooses_the_parts_that_its_keys_are_of():
    for name, recipe in catalog.options("experiment").items():
        required = [f"{key}=x" for key in ("objective.teacher", "model.run") if key in recipe.keys]
        config = compose("train", [f"experiment={name}", *required])
        for group in ("model", "objective", "sampler", "estimator"):
            assert recipes.choice(recipe, group, ()) == config["choices"].get(group), (name, group)


def test_what_a_recipe_says_of_a_part_that_is_left_out_goes_with_it():
    for words in (["estimator=null"], ["~estimator"]):
        assert compose("train", ["experiment=digits_joint_ebm", *words])["estimator"] is None
    with pytest.raises(UsageError, match=r"^estimator\.betas: there is no estimator, which estimator=null leaves out$"):
        compose("train", ["experiment=digits_joint_ebm", "estimator=null", "estimator.betas=5"])


def test_a_comment_of_several_lines_is_told_to_its_end():
    told = notes.comments(catalog.options("objective")["energy_discrepancy"])
    assert told["t"].endswith("null: 1 of reals, of ordinal 0.01 and of cyclic 0.005, in units of K^2")
    assert told["epsilon"].startswith("of bernoulli and uniform")
