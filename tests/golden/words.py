"""Words that commands of the golden runs share: data, networks, chains, estimators."""

STEPS, MORE = 4, 6
"""Steps of a golden run, and to where it is resumed."""

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
TRAJECTORIES = "data.length=20 data.train=5 data.val=2 data.test=2"
RING = f"{TRAJECTORIES} data=advection data.dimension=6 net@model.net=ring model.net.width=4 model.net.blocks=1"
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
