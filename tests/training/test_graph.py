"""A turn that promises to be static runs the same operations at every step, whatever the host counts meanwhile."""

import pytest
import torch
from golden import cases
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.racing import training
from gencli.core.noise import StepNoise
from gencli.core.spec import Batch
from gencli.training.graph import Graph

CASES = {
    "nll": "model=maf",
    "elbo": "model=vae",
    "iwae": "model=vae objective=iwae objective.gradient=dreg",
    "denoise": "model=diffusion",
    "dsm": "model=diffusion objective=dsm",
    "flow_matching": "model=flow_matching",
    "gan": "model=generator objective=gan",
    "wgan_gp": "model=generator objective=wgan_gp",
    "cd": "model=ebm objective=cd objective.steps=2",
    "cd_hmc": "model=ebm objective=cd objective.steps=2 kernel@objective.kernel=hmc",
    "cd_rbm": "model=rbm data=digits",
    "pcd": "model=ebm objective=pcd objective.steps=2",
    "nce": "model=ebm objective=nce",
    "energy_discrepancy": "model=ebm objective=energy_discrepancy",
    "score_matching": "model=ebm objective=score_matching",
    "sliced": "model=ebm objective=sliced_score_matching",
    "denoising_score_matching": "model=ebm objective=denoising_score_matching",
    "diffusion_score_matching": "model=ebm objective=diffusion_score_matching",
    "ratio_matching": "model=rbm objective=ratio_matching data=gray_toys",
    "pseudo_likelihood": "model=rbm objective=pseudo_likelihood data=gray_toys",
    "reverse_kl": "model=realnvp objective=reverse_kl data=potential",
    "cross_entropy": "model=joint_ebm objective=cross_entropy data=digits",
}
MOVING = {
    "elbo": "model=vae objective.warmup=0.5",
    "flow_matching": "model=flow_matching objective.coupling=optimal",
    "reverse_kl": "model=realnvp objective=reverse_kl data=potential objective.anneal=0.5",
    "mcmc_mle": "model=ebm objective=mcmc_mle objective.samples=20 objective.steps=1",
}


class Operations(TorchDispatchMode):
    """Writes down every operation: its name, the shapes of its tensors, its numbers."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append((str(func), *map(described, args), *sorted(map(str, map(described, (kwargs or {}).values())))))
        return func(*args, **(kwargs or {}))


def described(value):
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, list | tuple):
        return [described(one) for one in value]
    if isinstance(value, float):
        return repr(value)  # NaN is NaN
    return value if not isinstance(value, torch.Generator) else "generator"


def operations(words):
    """Of the same move at two steps of a training, far apart in its budget."""
    words = words if "data=" in words else f"{words} data=moons data.train=1000"
    usual = ["trainer.batch_size=8", "trainer.log_every=1000", "trainer.accumulate=1"]
    with training([*words.split(), *usual]) as trainer:
        found = []
        for fraction in (0.1, 0.9):
            trainer.steps(2)
            batch = next(trainer._batches)
            batch = trainer.parts.preprocess.batch(batch, StepNoise(trainer.device, 0))[0]
            batch.progress = fraction
            ways = []
            for number, turn in enumerate(trainer.state.turns):
                trainer.moves._only(turn)
                with Operations() as way:
                    turn.loss(batch, StepNoise(trainer.device, number))
                ways.append(way.seen)
            found.append(ways)
        return [turn.static for turn in trainer.state.turns], *found


READS = ("_local_scalar_dense", "nonzero", "_linalg_check_errors")


def read(ways):
    """Whether a value was read on the host."""
    return any(name in seen[0] for way in ways for seen in way for name in READS)


def one_hot(x, classes):
    """As on a GPU, where it reads nothing; on a CPU it looks whether the values are classes."""
    return (x[..., None] == torch.arange(classes)).long()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_static_turn_runs_the_same_operations_at_every_step(name):
    static, early, late = operations(CASES[name])
    assert all(static)
    assert early == late
    assert not read(early)


STEPPED = [name for name in cases.CASES if not name.startswith(("ngram", "consistency", "progressive"))]
"""Golden runs of all models; n-grams are counted, and teachers are asked on the host."""


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPPED)
def test_so_does_every_model(name, tmp_path, monkeypatch):
    cases.stage(tmp_path, name)
    monkeypatch.setattr(torch.nn.functional, "one_hot", one_hot)
    kept = [word for word in cases.overrides(name) if not word.startswith(("estimator", "device=", "n=", "logger="))]
    static, early, late = operations(" ".join(kept))
    for still, one, other in zip(static, early, late, strict=True):
        assert not still or (one == other and not read([one]))


@pytest.mark.slow
@pytest.mark.parametrize("name", MOVING)
def test_what_changes_from_step_to_step_or_is_read_back_is_not_static(name):
    static, *_ = operations(MOVING[name])
    assert not any(static)


def test_the_operations_would_tell():
    _, early, late = operations(MOVING["elbo"])
    assert early != late  # the weight of the rate is a number of the host
    with Operations() as way:
        float(torch.ones(()))
    assert read([way.seen])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_move_that_reads_on_the_host_goes_on_without_a_graph():
    device, said = torch.device("cuda"), []

    def move(batch, noise):
        drawn = noise.rand(3) + torch.rand(3, device=device)
        return {"drawn": drawn * float(drawn.sum() > 0)}

    graph = Graph(move, device, said.append)
    graph.left = 0
    stream = torch.cuda.current_stream()
    torch.cuda.manual_seed(1)
    found = [graph(Batch(torch.zeros(1, device=device)), StepNoise(device, k))["drawn"] for k in range(3)]
    torch.cuda.manual_seed(1)
    wanted = [move(None, StepNoise(device, k))["drawn"] for k in range(3)]
    assert len(said) == 1
    assert torch.cuda.current_stream() == stream
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["nll", "denoise", "elbo", "cd", "wgan_gp"])
def test_a_graph_learns_what_single_kernels_learn(name):
    learned = []
    for graph in ("true", "false"):
        words = [*CASES[name].split(), "data=moons", f"trainer.cuda_graph={graph}", "trainer.batch_size=64"]
        with training(words, "cuda") as trainer:
            trainer.steps(30)
            assert all(graph.graph is not None for graph in trainer.moves.graphs.values())
            learned.append([p.detach().cpu() for p in trainer.parts.model.parameters()])
    for one, other in zip(*learned, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
