"""Golden runs: what was trained, and what is asked of it. Shared by tests/test_golden.py and scripts/golden.

Only the public surface of gencli is used here (``load``, ``train``, the command line), so that this file stays as it is
when modules of the package move. Everything works in the current folder, which holds ``tests/golden`` or a copy of it:
the configs of runs name files and other runs by paths from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file

import gencli
from gencli.cli import main as cli
from gencli.config import renamed as names

HERE = Path(__file__).resolve().parent
GOLDEN = Path("tests/golden")
RUNS = GOLDEN / "runs"
FILES = ("text.txt", "table.csv", "mixed.csv", "images.npz")
"""Data of our own, beside the runs."""

KEPT = ("config.yaml", "run.json", "metrics.jsonl", "checkpoints/last.safetensors")
"""What is kept of a run folder: what it needs to be opened and to go on; and data.json, where it has one."""

STEPS, MORE = 4, 6
"""Steps of a golden run, and to where it is resumed."""

EXAMPLES, SAMPLES = 6, 3

BASE = (
    "device=cpu n=0 logger=none trainer=default trainer.max_steps=4 trainer.eval_every=4 trainer.log_every=2 "
    "trainer.batch_size=16 trainer.ema_decay=0 trainer.eval_examples=20 optimizer.lr=0.01 optimizer.warmup_steps=1"
)

_SIZES = "data.train=200 data.val=20 data.test=20"
MOONS = f"data=moons {_SIZES}"
EIGHT = f"data=eight_gaussians {_SIZES}"
GMM3 = f"data=gmm data.dim=3 {_SIZES}"
HMM = "data=hmm data.train=400 data.val=80 data.test=80 data.window=8"
DIGITS = "data=digits"
TEXT = "data=text_file data.path=tests/golden/text.txt data.window=12"
TABLE = "data=csv data.path=tests/golden/table.csv data.context=[c,d]"
MIXED = (
    "data=csv data.path=tests/golden/mixed.csv data.transform=standardize "
    "data.columns={kind:categorical,size:real,count:levels?,old:binary}"
)
IMAGES = "data=array data.path=tests/golden/images.npz data.transform=logit"
BITS8 = "data=digits data.binarize=7"
ANNEALED = "estimator=ais estimator.base=null estimator.chains=8 estimator.betas=4 estimator.refresh=3"
STEPS = "data.length=20 data.train=5 data.val=2 data.test=2"
LATTICE = "data=ising data.size=3 data.train=200 data.val=20 data.test=20"
KINDS = "data=csv data.path=tests/golden/mixed.csv data.columns={kind:categorical}"

NET8 = "model.net.vector.hidden=[8]"
FIELD8 = "model.net.vector.width=8 model.net.vector.blocks=1"
UNET4 = "net@model.net=unet model.net.width=4 model.net.multipliers=[1,1] model.net.heads=1 model.net.groups=2"
DIT8 = "net@model.net=dit model.net.width=8 model.net.layers=1 model.net.heads=2"

# Samplers and estimators, as small as they can be.
GIBBS = "objective.buffer=32 sampler.steps=4 sampler.warmup=2"
WOLFF = "sampler=gibbs kernel@sampler.kernel=wolff sampler.steps=4 sampler.warmup=2"
WALKS = (
    "sampler=ode sampler.method=heun sampler.steps=4",
    "sampler=ode sampler.atol=1e-3 sampler.rtol=1e-3",
    "sampler=ddim sampler.steps=4 sampler.grid=log_snr",
    "sampler=ddim sampler.steps=3 sampler.eta=0.5",
    "sampler=ddpm sampler.steps=4",
    "sampler=dpm_solver sampler.steps=4",
    "sampler=edm sampler.steps=4 sampler.churn=1",
    "sampler=euler_maruyama sampler.steps=5",
    "sampler=predictor_corrector sampler.steps=4",
)
CHAINS = (
    "sampler=hmc sampler.leaps=2 sampler.steps=3 sampler.warmup=3",
    "sampler=mala sampler.steps=3 sampler.warmup=3",
    "sampler=langevin sampler.steps=5 sampler.hot=3",
    "sampler=sgld sampler.steps=5",
    "sampler=tempering sampler.replicas=3 sampler.steps=4 sampler.warmup=3 sampler.leaps=1",
    "sampler=chain kernel@sampler.kernel=tempering sampler.kernel.replicas=3 "
    "sampler.kernel.leaps=1 sampler.steps=4 sampler.warmup=3",
)
MALA = CHAINS[1]
HMC = CHAINS[0]
ODE = WALKS[1]
ODE_NLL = "estimator=ode estimator.atol=1e-3 estimator.rtol=1e-3"
RK4_NLL = "estimator=ode estimator.method=rk4 estimator.steps=10"
HUTCHINSON = "estimator=ode estimator.trace=hutchinson estimator.probes=2 estimator.method=rk4 estimator.steps=4"
VLB = "estimator=vlb estimator.samples=2"
IWAE = "estimator=iwae estimator.k=4 estimator.rows=8"
ELBO = "estimator=elbo estimator.samples=2"
PARZEN = "estimator=parzen estimator.n=20 estimator.rows=10"
AIS = "estimator=ais estimator.chains=8 estimator.betas=4 estimator.leaps=1 estimator.refresh=3"
REVERSE = f"{AIS} estimator.report=reverse estimator.path=moments"
SMC = "estimator=smc estimator.chains=8 estimator.betas=4 estimator.leaps=1 estimator.populations=2"
BRIDGE = "estimator=bridge estimator.chains=8 estimator.betas=4 estimator.leaps=1 estimator.refresh=3"
IMPORTANCE = "estimator=importance estimator.samples=50 estimator.proposal.components=2"
QUADRATURE = "estimator=quadrature estimator.points=256 estimator.tolerance=1"


@dataclass(frozen=True)
class Case:
    """One golden run.

    Args:
        overrides: of ``gencli train``, beside BASE; its own sampler and estimator among them.
        estimators: others, each with its options.
        samplers: others, likewise.
        needs: runs that this one opens.
        split: where NLL is measured.
        context: dimension of a context vector that samples need; 0: none.
    """

    overrides: str
    estimators: tuple[str, ...] = ()
    samplers: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    split: str = "test"
    context: int = 0


def _run(name: str) -> str:
    return f"{RUNS}/{name}"


EBM = f"model=ebm {MOONS} {NET8} {MALA}"

CASES: dict[str, Case] = {
    # transform
    "gaussian": Case(
        f"model=gaussian model.covariance=diagonal {DIGITS}", (PARZEN,), ("sampler=direct sampler.temperature=0.7",)
    ),
    "gaussian_full": Case(f"model=gaussian {MOONS} optimizer=sgd", (QUADRATURE, PARZEN), (HMC,)),
    "increment": Case(
        f"model=increment {STEPS} data=pendulum {NET8} model.covariance=low_rank model.rank=1 "
        "data.transform=standardize",
        context=2,
    ),
    "increment_ring": Case(
        f"model=increment {STEPS} data=advection data.dimension=6 net@model.net=ring "
        "model.net.width=4 model.net.blocks=1",
        context=6,
    ),
    "gmm": Case("model=gmm model.components=2 data=crabs", split="train"),
    "gmm_vectors": Case(f"model=gmm model.components=2 model.covariance=diagonal {GMM3} data.transform=standardize"),
    "nice": Case(f"model=nice optimizer=adamax {MOONS} {NET8} model.couplings=2 trainer.ema_decay=0.9"),
    "realnvp": Case(
        f"model=realnvp {DIGITS} model.steps=1 model.marginal=2 model.net.tiny.hidden=[4] model.net.image.width=4"
    ),
    "flow": Case(
        f"model=realnvp {MOONS} {NET8} model.couplings=2 model.marginal=4",
        (AIS, SMC, IMPORTANCE, QUADRATURE, PARZEN),
        ("sampler=direct sampler.temperature=0.7", HMC),
    ),
    "realnvp_context": Case(
        f"model=realnvp model.conditional=true {TABLE} {NET8} model.couplings=2 model.marginal=0", context=2
    ),
    "realnvp_wgan_gp": Case(
        f"model=realnvp objective=wgan_gp {MOONS} {NET8} model.couplings=2 model.marginal=0 "
        "objective.critic.vector.hidden=[8] objective.gradient_penalty=10"
    ),
    "realnvp_reverse_kl": Case(
        f"model=realnvp objective=reverse_kl objective.target={_run('gaussian_full')} objective.anneal=0.6 {MOONS} "
        f"{NET8} model.couplings=2 model.marginal=0",
        needs=("gaussian_full",),
    ),
    "glow": Case(
        f"model=glow model.conditional=true {DIGITS} data.flip=true model.steps=1 model.marginal=0 "
        "model.net.tiny.hidden=[4] "
        "model.net.image.width=4",
        samplers=("sampler=direct sampler.classes=[3,8]",),
    ),
    "glow_vector": Case(f"model=glow {GMM3} {NET8} model.couplings=2 model.marginal=2"),
    "maf": Case(
        f"model=maf optimizer=adam {MOONS} model.hidden=[8] model.transforms=2 model.marginal=4 trainer.accumulate=2"
    ),
    "iaf": Case(f"model=iaf {MOONS} model.hidden=[8] model.transforms=2"),
    "nsf_coupling": Case(f"model=nsf_coupling {MOONS} {NET8} model.couplings=2 model.bins=4"),
    "nsf_images": Case(
        f"model=nsf_coupling {DIGITS} model.steps=1 model.bins=2 net@model.net=resnet model.net.width=4 "
        "model.net.blocks=1"
    ),
    "nsf_ar": Case(f"model=nsf_ar {GMM3} model.hidden=[8] model.transforms=2 model.bins=4 model.dropout=0.1"),
    # factorize
    "made": Case(
        f"model=made {DIGITS} model.hidden=[8] model.encoding=value model.components=2 model.direct=false "
        "model.masks=2 "
        "model.orderings=random",
        ("estimator=exact estimator.masks=1",),
        ("sampler=ancestral sampler.given=top_half", "sampler=ancestral sampler.temperature=0.7 sampler.top_p=0.9"),
    ),
    "made_real": Case(f"model=made {MOONS} model.hidden=[8] model.components=2", (QUADRATURE,), (MALA,)),
    "made_text": Case(f"model=made {HMM} model.hidden=[8]", samplers=("sampler=ancestral sampler.top_k=2",)),
    "pixelcnn": Case(
        f"model=pixelcnn {DIGITS} model.width=2 model.layers=2 model.first=3 model.hidden=4",
        samplers=("sampler=ancestral sampler.cached=false", "sampler=ancestral sampler.given=left_half"),
    ),
    "pixelcnn_pp": Case(
        f"model=pixelcnn_pp model.conditional=true {DIGITS} model.width=2 model.blocks=1 model.components=1",
        samplers=("sampler=ancestral sampler.classes=[1]",),
    ),
    "transformer": Case(
        f"model=transformer {HMM} model.layers=1 model.heads=2 model.width=8 trainer.ema_decay=0.9",
        samplers=("sampler=ancestral sampler.cached=false", "sampler=ancestral sampler.length=12"),
    ),
    "transformer_text": Case(
        f"model=transformer {TEXT} model.layers=1 model.heads=2 model.width=8 model.hidden=8 "
        "model.activation=swiglu model.tied=false",
        samplers=("sampler=ancestral sampler.prompt=the", "sampler=ancestral sampler.top_k=3"),
    ),
    "transformer_pixels": Case(
        f"model=transformer model.conditional=true {DIGITS} model.layers=1 model.heads=1 model.width=8 model.hidden=8",
        samplers=("sampler=ancestral sampler.given=top_half",),
    ),
    "transformer_mixed": Case(
        f"model=transformer {MIXED} model.layers=1 model.heads=1 model.width=8 model.hidden=8 model.components=2"
    ),
    "made_mixed": Case(f"model=made {MIXED} model.hidden=[8]", samplers=("sampler=ancestral sampler.given=[0,3]",)),
    "independent": Case(f"model=independent {MIXED} model.components=2"),
    "independent_pseudo_likelihood": Case(f"model=independent objective=pseudo_likelihood {HMM}"),
    "independent_ratio_matching": Case(f"model=independent objective=ratio_matching {HMM}"),
    "independent_discrepancy": Case(f"model=independent objective=energy_discrepancy {HMM}"),
    "ngram": Case(f"model=ngram {HMM} model.order=2", samplers=("sampler=ancestral sampler.temperature=0.5",)),
    "ngram_text": Case(
        f"model=ngram {TEXT} data.level=byte model.order=2", samplers=("sampler=ancestral sampler.prompt=the",)
    ),
    # latent
    "vae": Case(
        f"model=vae {DIGITS} {NET8} model.latent=3 model.components=1 objective.warmup=0.5 objective.free_bits=0.1 "
        f"{IWAE}",
        (ELBO,),
        ("sampler=direct sampler.temperature=0.7",),
    ),
    "vae_flows": Case(
        f"model=vae {MOONS} {NET8} model.latent=2 model.posterior=iaf model.prior=flow "
        f"model.flow={{transforms:1,hidden:[8],features:4}} {IWAE}",
        (ELBO,),
    ),
    "vae_vamp": Case(
        f"model=vae {MOONS} {NET8} model.latent=2 model.posterior=realnvp model.prior=vamp model.prior_components=3 "
        f"model.variance=network model.flow={{transforms:1,hidden:[8],features:4}} {ELBO}",
        (IWAE,),
    ),
    "vae_iwae": Case(
        f"model=vae objective=iwae objective.k=3 objective.gradient=dreg {MOONS} {NET8} model.latent=2 "
        f"model.prior=mixture model.prior_components=3 {IWAE}",
    ),
    "vae_images": Case(
        f"model=vae {IMAGES} data.transform=none model.net.image.width=2 model.net.image.hidden=4 model.latent=2 "
        f"model.components=1 {ELBO}"
    ),
    "hvae": Case(
        f"model=hvae model.conditional=true {DIGITS} {NET8} model.latent=[3,2] model.hidden=[[8]] "
        f"model.components=1 {IWAE}",
        (ELBO,),
    ),
    "ppca": Case(f"model=ppca {DIGITS} model.latent=2", (IWAE, ELBO)),
    "generator": Case(
        f"model=generator {EIGHT} {NET8} model.latent=2 objective.critic.vector.hidden=[8] objective.critic_steps=2 "
        "objective.gradient_penalty=10 trainer.ema_decay=0.9",
        (PARZEN,),
        ("sampler=direct sampler.temperature=0.7",),
    ),
    "generator_gan": Case(
        f"model=generator model.conditional=true objective=gan {DIGITS} data.transform=scale "
        "model.net.image.width=2 model.latent=2 "
        "objective.critic.image.width=2 objective.r1=0.1",
        samplers=("sampler=direct sampler.classes=[1]",),
    ),
    "generator_hinge": Case(
        f"model=generator objective=hinge {EIGHT} {NET8} model.latent=2 objective.critic.vector.hidden=[8]"
    ),
    "generator_wgan": Case(
        f"model=generator objective=wgan {DIGITS} data.transform=scale model.net.image.width=2 "
        "model.net.image.steps=residual "
        "model.latent=2 objective.critic.image.width=2 objective.critic.image.steps=residual objective.critic_steps=2"
    ),
    # evolve
    "diffusion": Case(
        f"model=diffusion {MOONS} {FIELD8} {ODE} {ODE_NLL} trainer.ema_decay=0.9",
        (RK4_NLL, HUTCHINSON, VLB, "estimator=vlb estimator.samples=2 estimator.timesteps=8"),
        (*WALKS, "sampler=euler_maruyama sampler.steps=4 sampler.given=[0] sampler.resample=2"),
    ),
    "diffusion_guided": Case(
        f"model=diffusion model.conditional=true model.label_dropout=0.2 {DIGITS} {FIELD8} data.flatten=true "
        f"objective.weighting=min_snr objective.times=logit_normal sampler=dpm_solver sampler.steps=3 {HUTCHINSON}",
        (VLB,),
        ("sampler=ddim sampler.steps=3 sampler.guidance=2 sampler.classes=[3,8]",),
    ),
    "diffusion_ve": Case(
        f"model=diffusion objective=dsm path@model.path=ve {MOONS} {FIELD8} model.prediction=x0 {ODE} {VLB}",
        (ODE_NLL,),
        WALKS[6:8],
    ),
    "diffusion_cosine": Case(
        f"model=diffusion path@model.path=cosine {MOONS} {FIELD8} model.prediction=v objective.weighting=snr {ODE} "
        f"{VLB}"
    ),
    "diffusion_subvp": Case(
        f"model=diffusion path@model.path=subvp {MOONS} net@model.net=residual model.net.width=8 model.net.blocks=1 "
        f"objective.weighting=likelihood objective.times=log_snr {ODE} {VLB}"
    ),
    "diffusion_unet": Case(f"model=diffusion {IMAGES} {UNET4} {WALKS[2]} {VLB}"),
    "ddpm": Case(
        f"model=ddpm model.timesteps=8 {MOONS} {FIELD8} {VLB}",
        samplers=(WALKS[2], WALKS[5], "sampler=ddpm sampler.variance=large"),
    ),
    "flow_matching": Case(f"model=flow_matching {MOONS} {FIELD8} {ODE} {ODE_NLL}", (VLB,), (WALKS[0], WALKS[7])),
    "flow_matching_optimal": Case(
        f"model=flow_matching objective.coupling=optimal path@model.path=trigonometric {MOONS} {FIELD8} {ODE} {ODE_NLL}"
    ),
    "flow_matching_dit": Case(f"model=flow_matching model.conditional=true {DIGITS} {DIT8} {WALKS[0]} {HUTCHINSON}"),
    "vdm": Case(f"model=vdm {MOONS} {FIELD8} model.path.degree=4 {ODE} {VLB}", (ODE_NLL,), (WALKS[5],)),
    "cnf": Case(
        f"model=cnf {MOONS} {FIELD8} objective.steps=2 objective.atol=1e-3 objective.rtol=1e-3 {ODE} {ODE_NLL}",
        samplers=(WALKS[0],),
    ),
    "reflow": Case(
        f"model=flow_matching objective=reflow objective.teacher={_run('flow_matching')} objective.pairs=40 "
        f"objective.tolerance=1e-2 {MOONS} {FIELD8} {ODE} {ODE_NLL}",
        samplers=("sampler=ode sampler.method=euler sampler.steps=2",),
        needs=("flow_matching",),
    ),
    "consistency": Case(
        f"model=diffusion objective=consistency objective.teacher={_run('diffusion')} objective.steps=4 {MOONS} "
        f"{FIELD8} "
        "sampler=consistency ~estimator",
        samplers=("sampler=consistency sampler.steps=3",),
        needs=("diffusion",),
    ),
    "progressive": Case(
        f"model=diffusion objective=progressive objective.teacher={_run('diffusion')} objective.start=4 "
        f"objective.end=1 {MOONS} "
        f"{FIELD8} sampler=ddim sampler.steps=1 ~estimator",
        needs=("diffusion",),
    ),
    # shape
    "ebm": Case(f"{EBM} objective.t=null {AIS}", (REVERSE, SMC, BRIDGE, IMPORTANCE, QUADRATURE), CHAINS),
    "ebm_mixture": Case(
        f"{EBM} model.base=gmm model.components=2 objective.perturbation=ou objective.t=0.1 {QUADRATURE}", (SMC,)
    ),
    "ebm_free": Case(
        f"{EBM} model.base=none objective=denoising_score_matching objective.sigmas=[0.1,0.5] "
        f"objective.regularization=0.1 {IMPORTANCE}"
    ),
    "ebm_images": Case(
        f"model=ebm model.covariance=diagonal {DIGITS} model.net.image.width=[2] model.net.image.spectral_norm=true "
        f"objective.samples=2 objective.t=null {MALA} {AIS}"
    ),
    "ebm_nce": Case(
        f"{EBM} objective=nce objective.ratio=2 objective.noise.kind=gmm objective.noise.components=2 {QUADRATURE}"
    ),
    "ebm_cd": Case(f"{EBM} objective=cd objective.steps=2 {QUADRATURE}"),
    "ebm_pcd": Case(
        f"{EBM} objective=pcd objective.buffer=32 objective.steps=2 objective.metropolis=true {QUADRATURE}"
    ),
    "ebm_mcmc_mle": Case(
        f"{EBM} objective=mcmc_mle objective.samples=8 objective.steps=2 objective.leaps=1 objective.anchor=2 "
        f"{QUADRATURE}"
    ),
    "ebm_sliced": Case(
        f"model=ebm net@model.net=mlp model.net.hidden=[8] model.net.activation=softplus model.net.spectral_norm=true "
        f"objective=sliced_score_matching {MOONS} {MALA} {QUADRATURE}"
    ),
    "ebm_tilt": Case(
        f"{EBM} objective.t=null model.base=run model.run={_run('flow')} {AIS} estimator.base=null",
        (QUADRATURE,),
        (HMC,),
        needs=("flow",),
    ),
    "ebm_tilt_nce": Case(
        f"{EBM} model.base=run model.run={_run('flow')} objective=nce objective.ratio=1 objective.noise.kind=run "
        f"objective.noise.run={_run('flow')} {QUADRATURE}",
        needs=("flow",),
    ),
    "polynomial": Case(f"model=polynomial optimizer=rmsprop {MOONS} {HMC} {QUADRATURE}", (AIS,), (MALA,)),
    "quadratic": Case(
        f"model=quadratic objective=diffusion_score_matching {MOONS} {HMC} {AIS}", (IMPORTANCE,), (MALA,)
    ),
    "rbm": Case(
        f"model=rbm model.hidden=4 objective.buffer=20 objective.steps=1 {BITS8} estimator=enumerate",
        (ANNEALED, "estimator=bridge estimator.chains=8 estimator.betas=4 estimator.refresh=3"),
        ("sampler=gibbs sampler.steps=4 sampler.warmup=2",),
    ),
    "joint_ebm": Case(
        f"model=joint_ebm objective=cross_entropy {DIGITS} data.flatten=true {NET8} model.covariance=diagonal "
        f"{IMPORTANCE}",
        samplers=(MALA,),
    ),
    "discrete_ebm": Case(
        f"model=discrete_ebm {BITS8} data.flatten=true {NET8} objective.samples=4 {ANNEALED} "
        "sampler=gibbs_with_gradients sampler.steps=4 sampler.warmup=0"
    ),
    "discrete_ebm_images": Case(
        f"model=discrete_ebm net@model.net=residual_energy model.net.width=4 model.net.blocks=1 {BITS8} "
        f"objective=pcd objective.buffer=20 objective.steps=1 {ANNEALED} "
        "sampler=chain kernel@sampler.kernel=dmala sampler.steps=4 sampler.warmup=2"
    ),
    "tabular": Case(f"model=tabular {KINDS} sampler=chain sampler.steps=3 sampler.warmup=0"),
    "ergm": Case(
        "model=ergm data=florentine model.terms=[edges,triangles] objective.samples=20 objective.steps=2 "
        "objective.anchor=2 sampler=tie_no_tie sampler.steps=3 estimator.chains=10 estimator.bridges=2",
        split="test",
    ),
    "ising": Case(f"model=ising {LATTICE} {GIBBS} objective.steps=1", ("estimator=kaufman",), (WOLFF,)),
    "ising_pairs": Case(
        f"model=ising model.fields=sites {LATTICE} {GIBBS} objective.steps=1 estimator=trw",
        ("estimator=bethe", "estimator=mean_field estimator.restarts=2", "estimator=enumerate"),
    ),
    "ising_free": Case(
        f"model=ising model.boundary=free model.couplings=edges {LATTICE} {GIBBS} objective.steps=1 estimator=kac_ward"
    ),
    "potts": Case(f"model=potts model.fields=sites {KINDS} {GIBBS} objective.steps=1", (), (WOLFF,)),
}


def overrides(name: str) -> list[str]:
    """The words after ``gencli train``; the optimizer is that of the day on which the runs were made."""
    own = CASES[name].overrides.split()
    usual = [] if any(word.startswith("optimizer=") for word in own) else ["optimizer=adamw"]
    return [*BASE.split(), *usual, *own]


def stage(root: Path, *names: str) -> None:
    """Copy some golden runs, those that they open and our data files below a folder."""
    (root / RUNS).mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(HERE / file, root / GOLDEN / file)
    for each in {*names, *(other for name in names for other in CASES[name].needs)}:
        shutil.copytree(HERE / "runs" / each, root / RUNS / each, dirs_exist_ok=True)


# --- what a run says -------------------------------------------------------------------------------------------------


def opened(name: str, x: Any = None) -> dict[str, Any]:
    """What a golden run says by its own estimator and sampler.

    Args:
        name: of the run.
        x: samples whose log p is asked for; None: its own.
    """
    case = CASES[name]
    run = gencli.load(_run(name), device="cpu")
    says: dict[str, Any] = {"status": run.info["status"], "result": run.info["result"], "metrics": _lines(run)}
    if run.config.get("estimator"):
        with silent():
            record = run.nll(case.split, examples=EXAMPLES)
        says["nll"] = _record(record, run.path)
    y = torch.linspace(-1, 1, SAMPLES * case.context).reshape(SAMPLES, case.context) if case.context else None
    samples = run.sample(SAMPLES, y=y)
    says["samples"] = _tensor(samples)
    if run.config["choices"].get("estimator") == "exact":
        x = samples if x is None else torch.tensor(x, dtype=samples.dtype)
        if y is None and run.config["model"]["conditional"]:
            y = torch.arange(len(x))
        says["log_prob"] = run.log_prob(x, y).tolist()
    return says


def others(name: str) -> dict[str, Any]:
    """What a golden run says by each other estimator and sampler."""
    case, says = CASES[name], {}
    for text in case.estimators:
        shutil.rmtree(Path(_run(name)) / "eval", ignore_errors=True)
        command(
            ["eval", f"run={_run(name)}", "device=cpu", f"split={case.split}", f"examples={EXAMPLES}", *text.split()]
        )
        (file,) = (Path(_run(name)) / "eval").glob("*.json")
        record = json.loads(file.read_text(encoding="utf-8"))
        record.pop("seal")  # of the bytes that its arrays have here
        says[text] = _record(record, Path(_run(name)))
    for text in case.samplers:
        shown = yaml.safe_load(command(["sample", f"run={_run(name)}", *text.split(), "--cfg", "job"]))
        run = gencli.load(_run(name), device="cpu", overrides={"sampler": shown["sampler"]})
        says[text] = _tensor(run.sample(SAMPLES))
    return says


def trained(name: str, tensors: bool = False) -> dict[str, Any]:
    """What training from scratch gives, and where the golden run goes from its checkpoint; both change the folder.

    Args:
        name: of the run.
        tensors: whether each tensor is told, or only sums of groups.
    """
    stored = state(Path(_run(name)), tensors)
    with silent():
        fresh = gencli.train([*overrides(name), "run_dir=fresh"])
        resumed = gencli.train([f"resume={_run(name)}", f"trainer.max_steps={MORE}"])
    return {
        "stored": stored,
        "fresh": {"state": state(fresh.path, tensors), "metrics": _lines(fresh)},
        "resumed": {"state": state(resumed.path, tensors), "metrics": _lines(resumed)},
    }


def state(run: Path, tensors: bool) -> dict[str, Any]:
    """The last checkpoint, by group (model, ema, objective, preprocess, optimizer.TURN): count, sum, norm, hash."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in sorted(load_file(run / "checkpoints" / "last.safetensors").items()):
        groups.setdefault(name.split("/")[0], {})[name] = tensor
    found: dict[str, Any] = {}
    for group, members in groups.items():
        flat = torch.cat([t.double().flatten() for t in members.values()])
        found[group] = {
            "count": flat.numel(),
            "sum": float(flat.sum()),
            "norm": float(flat.norm()),
            "sha256": _hash(*members.values()),
        }
        if tensors:
            found[group]["tensors"] = {name: _hash(t) for name, t in members.items()}
    return found


def everything(name: str) -> dict[str, Any]:
    """All of the above, to the bit."""
    return {"opened": opened(name), "others": others(name), "trained": trained(name, tensors=True)}


_CLOCK = ("seconds", "steps_per_second", "examples_per_second", "checkpoint_sha256")


def _lines(run: Any) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock says."""
    return [{key: value for key, value in line.items() if key not in _CLOCK} for line in run.metrics]


def _record(record: dict[str, Any], run: Path) -> dict[str, Any]:
    """A record with nats by example, without what the clock says and the file's own hash."""
    files = (run / "eval").glob(f"{record['split']}-{record['estimator']}*.npz")  # the name tells how few examples
    with np.load(max(files, key=lambda file: file.stat().st_mtime_ns)) as arrays:
        nats = arrays["nll"].tolist()
    return {key: value for key, value in record.items() if key not in _CLOCK} | {"nats": nats}


def _tensor(x: torch.Tensor) -> dict[str, Any]:
    return {"dtype": str(x.dtype), "values": x.tolist(), "sha256": _hash(x)}


def _hash(*tensors: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(
            f"{t.dtype}{list(t.shape)}".encode() + t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()[:32]


# --- the command line ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent() -> Iterator[io.StringIO]:
    """What is said goes into a text."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        yield said


def command(words: list[str]) -> str:
    """Run ``gencli WORDS``; what it prints.

    Raises:
        RuntimeError: its exit code is not 0.
    """
    with silent() as said, contextlib.redirect_stderr(said):
        code = cli.main(words)
    if code:
        raise RuntimeError(f"gencli {' '.join(words)}: exit code {code}: {said.getvalue()[-2000:]}")
    return said.getvalue()


# --- class paths -----------------------------------------------------------------------------------------------------


def class_paths() -> list[str]:
    """Every dotted name that a run's config.yaml may hold as ``_target_`` and that has to lead to a class."""
    lines = (HERE / "class_paths.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def resolve(path: str) -> type:
    """The class behind a path that once stood in a config.

    Raises:
        TypeError: there is something else.
    """
    module, _, name = names.current(path).rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not inspect.isclass(found):
        raise TypeError(f"{path} is no class")
    return found


def renamed(text: str, pairs: dict[str, str]) -> str:
    """A text in which dotted names, whole ones or their beginnings, have their new names; longest first."""
    if not pairs:
        return text
    names = "|".join(re.escape(name) for name in sorted(pairs, key=len, reverse=True))
    return re.sub(rf"(?<![\w.])({names})(?!\w)", lambda match: pairs[match[1]], text)
