"""Golden runs: what was trained, and what is asked of it (``asked``), for tests/test_golden.py and scripts/golden.

Everything works in the current folder, which holds ``tests/golden`` or a copy of it: the configs of runs name files and
other runs by paths from there.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from golden.words import (
    AIS,
    ANNEALED,
    BASE,
    BITS8,
    BRIDGE,
    CHAINS,
    DIGITS,
    DIT8,
    EIGHT,
    ELBO,
    FIELD8,
    GIBBS,
    GMM3,
    HMC,
    HMM,
    HUTCHINSON,
    IMAGES,
    IMPORTANCE,
    IWAE,
    KINDS,
    LATTICE,
    MALA,
    MIXED,
    MOONS,
    NET8,
    ODE,
    ODE_NLL,
    PARZEN,
    QUADRATURE,
    REVERSE,
    RING,
    RK4_NLL,
    SMC,
    TABLE,
    TEXT,
    TRAJECTORIES,
    UNET4,
    VLB,
    WALKS,
    WOLFF,
)

HERE = Path(__file__).resolve().parent
GOLDEN = Path("tests/golden")
RUNS = GOLDEN / "runs"
FILES = ("text.txt", "table.csv", "mixed.csv", "images.npz")
"""Data of our own, beside the runs."""

KEPT = ("config.yaml", "run.json", "metrics.jsonl", "checkpoints/last.safetensors")
"""What is kept of a run folder: what it needs to be opened and to go on; and data.json, where it has one."""


EXAMPLES, SAMPLES = 6, 3


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


def path(name: str) -> str:
    return f"{RUNS}/{name}"


EBM = f"model=ebm {MOONS} {NET8} {MALA}"

CASES: dict[str, Case] = {
    # transform
    "gaussian": Case(
        f"model=gaussian model.covariance=diagonal {DIGITS}", (PARZEN,), ("sampler=direct sampler.temperature=0.7",)
    ),
    "gaussian_full": Case(f"model=gaussian {MOONS} optimizer=sgd", (QUADRATURE, PARZEN), (HMC,)),
    "increment": Case(
        f"model=increment {TRAJECTORIES} data=pendulum {NET8} model.covariance=low_rank model.rank=1 "
        "data.transform=standardize",
        context=2,
    ),
    "increment_ring": Case(f"model=increment {RING}", context=6),
    "increment_linear": Case(f"model=increment {RING} model.mean=linear model.covariance=shared", context=6),
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
        f"model=realnvp objective=reverse_kl objective.target={path('gaussian_full')} objective.anneal=0.6 {MOONS} "
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
    "flow_matching_linear": Case(
        f"model=flow_matching model.conditional=true model.location=linear {RING} model.beside=true {ODE} {HUTCHINSON}",
        context=6,
    ),
    "flow_matching_dit": Case(f"model=flow_matching model.conditional=true {DIGITS} {DIT8} {WALKS[0]} {HUTCHINSON}"),
    "vdm": Case(f"model=vdm {MOONS} {FIELD8} model.path.degree=4 {ODE} {VLB}", (ODE_NLL,), (WALKS[5],)),
    "cnf": Case(
        f"model=cnf net@model.net=field {MOONS} {FIELD8} objective.steps=2 objective.adjoint=true objective.atol=1e-3 "
        f"objective.rtol=1e-3 {ODE} {ODE_NLL}",
        samplers=(WALKS[0],),
    ),
    "reflow": Case(
        f"model=flow_matching objective=reflow objective.teacher={path('flow_matching')} objective.pairs=40 "
        f"objective.tolerance=1e-2 {MOONS} {FIELD8} {ODE} {ODE_NLL}",
        samplers=("sampler=ode sampler.method=euler sampler.steps=2",),
        needs=("flow_matching",),
    ),
    "consistency": Case(
        f"model=diffusion objective=consistency objective.teacher={path('diffusion')} objective.steps=4 {MOONS} "
        f"{FIELD8} "
        "sampler=consistency ~estimator",
        samplers=("sampler=consistency sampler.steps=3",),
        needs=("diffusion",),
    ),
    "progressive": Case(
        f"model=diffusion objective=progressive objective.teacher={path('diffusion')} objective.start=4 "
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
        f"{EBM} objective.t=null model.base=run model.run={path('flow')} {AIS} estimator.base=null",
        (QUADRATURE,),
        (HMC,),
        needs=("flow",),
    ),
    "ebm_tilt_nce": Case(
        f"{EBM} model.base=run model.run={path('flow')} objective=nce objective.ratio=1 objective.noise.kind=run "
        f"objective.noise.run={path('flow')} {QUADRATURE}",
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
