"""Every model with every objective, sampler and estimator: it is built, or refused by both gates in the same words."""

import functools
import hashlib
import re
from pathlib import Path

import pytest

from gencli.config import catalog, compatibility
from gencli.config.compose import compose
from gencli.core.errors import UsageError
from gencli.interfaces import Estimator, Model, Objective
from gencli.run.assembly import assemble, check_capabilities, data_factory
from gencli.run.build import resolve
from gencli.run.opened import builder
from gencli.samplers.base import Procedure

MIXED = Path(__file__).parents[1] / "golden" / "mixed.csv"

KINDS = {"objective": Objective, "sampler": Procedure, "estimator": Estimator}


def classes(group, kind):
    """Name and class of each option of a group."""
    options = catalog.options(group)
    return {name: resolve({"_target_": option.target}, kind, ()) for name, option in options.items() if option.target}


MODELS = classes("model", Model)
PARTNERS = {group: classes(group, kind) for group, kind in KINDS.items()}


def lacking(part, model):
    return [kind.__name__ for kind in part.requires if not issubclass(model, kind)]


def fitting(group, model):
    return [name for name, part in PARTNERS[group].items() if not lacking(part, MODELS[model])]


@pytest.mark.slow
@pytest.mark.parametrize("group", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_both_gates_refuse_the_same_pairs_in_the_same_sentence(group, model):
    owner = MODELS[model]
    for part in PARTNERS[group].values():
        names = {"model": owner.__name__, group: part.__name__}
        sections = {
            group: {"_target_": f"{kind.__module__}.{kind.__qualname__}"}
            for group, kind in (("model", owner), (group, part))
        }
        if not lacking(part, owner):
            compatibility.check({**sections, "choices": names})
            continue
        with pytest.raises(UsageError) as by_class:
            compatibility.check({**sections, "choices": names})
        with pytest.raises(UsageError) as built:
            check_capabilities(group, part.__new__(part), owner.__new__(owner))
        assert str(by_class.value).startswith(f"{built.value}. {group}s that fit model={owner.__name__}: ")


# --- pairs that fit --------------------------------------------------------------------------------------------------

BY_VALUE = re.compile(
    r"moves x continuously|moves x that is|sums over states|sums at most|is for bits|for discrete x|needs discrete|"
    r"of discrete x|needs an energy over pairs|no parameter to train|needs a model of reals|"
    r"cannot score windows|two dimensions|"
    r"^model\.(timesteps=|path)|"
    r"objective=consistency|sampler\.(steps|grid)|estimator\.(masks|timesteps|report)|no base of its own|"
    r"for bits; of more values|is for planar graphs|"
    r"sampler=rollout needs model.conditional|has neither an energy nor a score|"
    r"Z depends on y|chains without labels|vector context|here, which needs independent or run"
)
"""Why a part may be refused once it is built, though its class fits: discrete data, or values of the model."""


SMALL = {"ppca": ["model.latent=1"], "discrete_ebm": ["data.flatten=true", "model.net.vector.hidden=[8]"]}
"""Where the model's own sizes do not fit the data, or take long to build."""


def words(model):
    """A model on the smallest data that it takes."""
    owner, own = MODELS[model], SMALL.get(model, [])
    data = "moons" if "real" in owner.supports and "vector" in owner.shapes else "digits"
    if model in ("ngram", "transformer"):
        data = "hmm"
    if model == "ising":
        data = "ising"
    if model == "ergm":
        data = "florentine"
    if model == "joint_ebm":
        data = "digits"
    if model == "increment":
        data = "lorenz63"
    if model in ("potts", "tabular"):
        data, own = "csv", [f"data.path={MIXED}", "data.columns={kind:categorical}"]
    few = [f"data.{split}=40" for split in ("train", "val", "test")] if data in ("moons", "hmm") else []
    window = ["data.window=8"] if data == "hmm" else []
    return [f"model={model}", f"data={data}", "device=cpu", "logger=none", *few, *window, *own]


@functools.cache
def composed(model):
    return compose("train", [*words(model), "sampler=null", "estimator=null"])


@functools.cache
def section(group, name):
    """An option's section: what its file says; if it holds other options, as in the config of a model that it fits."""
    option = catalog.options(group)[name]
    teacher = {"teacher": "never_opened"} if group == "objective" and "teacher" in option.keys else {}
    if not option.nested and not any("." in key for key in option.keys):
        return {**option.keys, **teacher}
    fits = next(model for model in MODELS if name in fitting(group, model))
    return compose("train", [*words(fits), f"{group}={name}", *(f"{group}.{k}={v}" for k, v in teacher.items())])[group]


@pytest.fixture(autouse=True)
def _data_once(monkeypatch):
    """A model's data are made once for all of its partners."""
    made = {}

    def once(section, *args, **kwargs):
        make, key = data_factory(section, *args, **kwargs), str(section)

        def kept():
            made[key] = made.get(key) or make()
            return made[key]

        return kept

    monkeypatch.setattr("gencli.run.assembly.data_factory", once)


def assembled(model, group, name):
    """The parts of a model with one partner, or None where a value is the reason that they do not fit."""
    try:
        return assemble({**composed(model), group: section(group, name)})
    except UsageError as error:
        if BY_VALUE.search(str(error)):
            return None
        raise


def state(model):
    """Everything that can be read of a model: tensors, and what else its modules hold."""
    tensors = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        tensors.update(name.encode() + tensor.numpy().tobytes())
    flags = [(name, p.requires_grad, p.grad) for name, p in model.named_parameters()]
    kept = [
        (name, sorted((key, str(value)) for key, value in vars(module).items() if not key.startswith("_")))
        for name, module in model.named_modules()
    ]
    return tensors.hexdigest(), flags, kept, str(model)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_objectives_that_fit_bind_and_leave_the_model_as_it_was(model):
    for name in fitting("objective", model):
        if (parts := assembled(model, "objective", name)) is None:
            continue
        before = state(parts.model)
        learned = builder(()).component(section("objective", name), Objective, parts.model.spec).bind(parts.model)
        assert state(parts.model) == before, name
        assert learned == parts.learned


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_samplers_and_estimators_that_fit_are_built(model):
    for group in ("sampler", "estimator"):
        for name in fitting(group, model):
            parts = assembled(model, group, name)
            assert parts is None or type(getattr(parts, group)) is PARTNERS[group][name]
