"""Every model with every objective, sampler and estimator: it is built, or refused by both gates in the same words."""

import hashlib

import pytest
import torch

from gencli.config import catalog, compatibility
from gencli.config.compose import compose
from gencli.core.errors import UsageError
from gencli.interfaces import Estimator, Model, Objective, Sampler
from gencli.run.assembly import assemble, check_capabilities
from gencli.run.build import resolve
from gencli.run.opened import builder

KINDS = {"objective": Objective, "sampler": Sampler, "estimator": Estimator}


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

SMALL = {
    "model.net.vector": "{width: 8, blocks: 1}",
    "model.hidden": "[8]",
    "model.width": "8",
}
REFUSED_BY_VALUE = {
    ("quadrature", "digits"): "two dimensions",
}


def words(model):
    """The smallest data that a model takes."""
    owner = MODELS[model]
    data = (
        "moons"
        if "real" in owner.supports and "vector" in owner.shapes
        else "hmm"
        if model in ("ngram", "transformer")
        else "digits"
    )
    return [f"model={model}", f"data={data}", "device=cpu", "logger=none"]


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
    for objective in fitting("objective", model):
        teacher = (
            ["objective.teacher=never_opened"] if "teacher" in catalog.options("objective")[objective].keys else []
        )
        cfg = compose("train", [*words(model), f"objective={objective}", "sampler=null", "estimator=null", *teacher])
        try:
            parts = assemble(cfg)
        except UsageError as error:
            print("REFUSED", model, objective, error)
            continue
        before = state(parts.model)
        torch.manual_seed(1)
        builder(()).component(cfg["objective"], Objective, parts.model.spec).bind(parts.model)
        assert state(parts.model) == before, objective


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("group", ["sampler", "estimator"])
def test_samplers_and_estimators_that_fit_are_built(group, model):
    for part in fitting(group, model):
        other = "estimator" if group == "sampler" else "sampler"
        try:
            parts = assemble(compose("train", [*words(model), f"{group}={part}", f"{other}=null"]))
        except UsageError as error:
            print("REFUSED", model, part, error)
            continue
        assert type(getattr(parts, group)) is PARTNERS[group][part]
