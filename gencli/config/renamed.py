"""Old dotted names of classes: what stands in the config.yaml of a run that an older gencli wrote.

A name that moves is added here and never taken away, so that every run folder opens.
"""

from __future__ import annotations

from typing import Any

MODULES = {
    "gencli.data.array": "gencli.data.sets.array",
    "gencli.data.binarized_mnist": "gencli.data.sets.binarized_mnist",
    "gencli.data.celeba": "gencli.data.sets.celeba",
    "gencli.data.cifar10": "gencli.data.sets.cifar10",
    "gencli.data.crabs": "gencli.data.sets.crabs",
    "gencli.data.csv": "gencli.data.sets.csv",
    "gencli.data.digits": "gencli.data.sets.digits",
    "gencli.data.gaussian": "gencli.data.sets.gaussian",
    "gencli.data.gmm": "gencli.data.sets.gmm",
    "gencli.data.hmm": "gencli.data.sets.hmm",
    "gencli.data.image_folder": "gencli.data.sets.image_folder",
    "gencli.data.mnist": "gencli.data.sets.mnist",
    "gencli.data.svhn": "gencli.data.sets.svhn",
    "gencli.data.tabular": "gencli.data.sets.tabular",
    "gencli.data.text": "gencli.data.sets.text",
    "gencli.data.toys": "gencli.data.sets.toys",
    "gencli.data.uci_binary": "gencli.data.sets.uci_binary",
    "gencli.estimators.annealing": "gencli.estimators.annealed",
    "gencli.models.evolve.cnf": "gencli.models.diffusion.cnf",
    "gencli.models.evolve.field": "gencli.models.diffusion.field",
    "gencli.models.evolve.learned": "gencli.paths.learned",
    "gencli.models.evolve.paths": "gencli.paths.schedules",
    "gencli.models.factorize.made": "gencli.models.autoregressive.made",
    "gencli.models.factorize.ngram": "gencli.models.classical.ngram",
    "gencli.models.factorize.pixelcnn": "gencli.models.autoregressive.pixelcnn",
    "gencli.models.factorize.transformer": "gencli.models.autoregressive.transformer",
    "gencli.models.latent.generator": "gencli.models.generator",
    "gencli.models.latent.ppca": "gencli.models.classical.ppca",
    "gencli.models.shape.ebm": "gencli.models.energy.ebm",
    "gencli.models.shape.exponential": "gencli.models.energy.exponential",
    "gencli.models.shape.reference": "gencli.models.energy.reference",
    "gencli.models.transform.autoregressive": "gencli.models.flows.autoregressive",
    "gencli.models.transform.coupling": "gencli.models.flows.coupling",
    "gencli.models.transform.gaussian": "gencli.models.classical.gaussian",
    "gencli.models.transform.gmm": "gencli.models.classical.gmm",
    "gencli.nn.field": "gencli.nn.auto",
    "gencli.nn.made": "gencli.nn.masked",
    "gencli.nn.pixelcnn": "gencli.nn.causal_conv",
    "gencli.nn.transformer": "gencli.nn.attention",
    "gencli.objectives.consistency": "gencli.objectives.distillation.consistency",
    "gencli.objectives.contrastive_divergence": "gencli.objectives.energy.contrastive_divergence",
    "gencli.objectives.denoise": "gencli.objectives.diffusion.denoise",
    "gencli.objectives.energy_discrepancy": "gencli.objectives.energy.energy_discrepancy",
    "gencli.objectives.flow_matching": "gencli.objectives.diffusion.flow_matching",
    "gencli.objectives.flow_nll": "gencli.objectives.diffusion.flow_nll",
    "gencli.objectives.mcmc_mle": "gencli.objectives.energy.mcmc_mle",
    "gencli.objectives.nce": "gencli.objectives.energy.nce",
    "gencli.objectives.nll": "gencli.objectives.likelihood",
    "gencli.objectives.progressive": "gencli.objectives.distillation.progressive",
    "gencli.objectives.reflow": "gencli.objectives.distillation.reflow",
    "gencli.objectives.score_matching": "gencli.objectives.energy.score_matching",
    "gencli.objectives.vlb": "gencli.objectives.diffusion.vlb",
    "gencli.samplers.consistency": "gencli.samplers.diffusion.consistency",
    "gencli.samplers.ddim": "gencli.samplers.diffusion.ddim",
    "gencli.samplers.dpm_solver": "gencli.samplers.diffusion.dpm_solver",
    "gencli.samplers.edm": "gencli.samplers.diffusion.edm",
    "gencli.samplers.ode": "gencli.samplers.diffusion.ode",
    "gencli.samplers.sde": "gencli.samplers.diffusion.sde",
}
"""Modules that moved whole; a class keeps its name."""

CLASSES = {
    "gencli.estimators.annealed.AIS": "gencli.estimators.ais.AIS",
    "gencli.estimators.annealed.SMC": "gencli.estimators.smc.SMC",
    "gencli.paths.learned.Learned": "gencli.paths.learned.LearnedSchedule",
}
"""Classes whose own name changed, by what the table above makes of it."""


def current(target: str) -> str:
    """The name that a class has today.

    Example:
        >>> current("gencli.objectives.nce.NCE")
        'gencli.objectives.energy.nce.NCE'
    """
    module, _, name = target.rpartition(".")
    moved = f"{MODULES.get(module, module)}.{name}" if module else target
    return CLASSES.get(moved, moved)


def update(node: Any) -> None:
    """Give every ``_target_`` within plain data the name that its class has today."""
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        update(value)
    if isinstance(node, dict) and isinstance(node.get("_target_"), str):
        node["_target_"] = current(node["_target_"])


def logger(section: Any) -> Any:
    """The section ``logger`` of a run in today's form, loggers by name; it was ``tensorboard: true`` or ``false``."""
    if isinstance(section, dict) and isinstance(section.get("tensorboard"), bool):
        others = {name: node for name, node in section.items() if name != "tensorboard"}
        now = {"tensorboard": {"_target_": "gencli.loggers.tensorboard.TensorBoard"}}
        return (now if section["tensorboard"] else {}) | others
    return section
