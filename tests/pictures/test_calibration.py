"""Ranks: uniform where data and samples are of one distribution, and beyond their band where they are not."""

import math

import pytest
import torch

from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise
from gencli.data.preprocess import Preprocess
from gencli.data.sets.gaussian import Gaussian
from gencli.data.sets.hmm import HMM
from gencli.models.classical.ppca import PPCA
from gencli.pictures import style
from gencli.pictures.calibration import KS_95, Calibration, differences, ranks_of
from gencli.run.assembly import Parts
from gencli.samplers.direct import Direct

N = 2000


def noise(n=N):
    return RowNoise(0, torch.arange(n))


def largest(ranks):
    return float(differences(ranks)[1].abs().max())


@pytest.mark.parametrize(("scale", "right"), [(1.0, True), (1.3, False)])
def test_ranks_tell_two_distributions_apart(scale, right):
    generator = torch.Generator().manual_seed(1)
    real, drawn = (torch.randn(N, generator=generator, dtype=torch.float64) for _ in range(2))
    found = largest(ranks_of(scale * real, drawn, noise()))
    assert (found < KS_95 * math.sqrt(2 / N)) == right


def test_ties_are_broken_at_random():
    ranks = ranks_of(torch.zeros(N), torch.zeros(50), noise())
    assert largest(ranks) < KS_95 / math.sqrt(N)
    assert 0 <= float(ranks.min()) <= float(ranks.max()) <= 1


def test_missing_values_come_first():
    ranks = ranks_of(torch.tensor([math.nan, 3.0]), torch.arange(99.0), noise(2))
    assert float(ranks[0]) < 0.011
    assert 0.03 <= float(ranks[1]) <= 0.051


def test_a_line_begins_and_ends_at_zero():
    at, gap = differences(torch.tensor([0.5, 0.25], dtype=torch.float64))
    assert at.tolist() == [0, 0.25, 0.25, 0.5, 0.5, 1]
    assert gap.tolist() == [0, -0.25, 0.25, 0, 0.5, 0]


def parts_of(dataset, sampler):
    preprocess = Preprocess(dataset.spec, PPCA.supports, PPCA.shapes)
    model = PPCA(preprocess.model_spec, latent=1)
    model.initialize(dataset.split("train").x)
    return Parts(torch.device("cpu"), dataset, preprocess, model, None, sampler, None)


def test_a_model_that_fits_is_calibrated():
    parts = parts_of(Gaussian(train=5000, val=10, test=600), Direct())
    with style.applied():
        drawn = Calibration(samples=600, examples=600).make(parts, 4, 0)
    assert set(drawn.files) == {".npz"}
    names = [text.get_text().split(":")[0] for text in drawn.figures[""].axes[1].get_legend().get_texts()]
    assert names == ["95 % of lines, if right", "log p(x)", "x[0]", "x[1]"]
    assert drawn.terminal.startswith("largest difference from uniform ranks: log p(x) 0.0")


def test_what_has_no_ranks_is_refused():
    gaussian = Gaussian(train=20, val=10, test=10)
    with pytest.raises(UsageError, match="needs a sampler of whole examples"):
        Calibration().make(parts_of(gaussian, None), 4, 0)
    parts = parts_of(gaussian, Direct())
    parts.dataset = HMM(train=20, val=10, test=10, window=4)
    with pytest.raises(UsageError, match=r"needs independent examples; data=hmm has none"):
        Calibration().make(parts, 4, 0)
