"""Linear maps of examples: their adjoints, and that each is what its name says."""

import pytest
import torch

from gencli.core.regions import REGIONS
from gencli.methods.operators import Identity, Matrix, Operator, Selection, block_means, blur

SHAPE = (2, 6, 8)


def mask() -> torch.Tensor:
    kept = torch.zeros(SHAPE, dtype=torch.bool)
    rows, columns = REGIONS["left_half"](*SHAPE[1:])
    kept[:, rows, columns] = True
    return kept


OPERATORS: dict[str, Operator] = {
    "identity": Identity(SHAPE),
    "selection": Selection(SHAPE, mask()),
    "gaussian": blur(SHAPE, "gaussian", 1.3),
    "box": blur(SHAPE, "box", 3.0),
    "means": block_means(SHAPE, 2),
    "matrix": Matrix(SHAPE, torch.randn(5, 96, generator=torch.Generator().manual_seed(2))),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_adjoint_is_that_of_inner_products(name):
    A, generator = OPERATORS[name], torch.Generator().manual_seed(0)
    x = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    z = torch.randn(3, A.size, generator=generator, dtype=torch.float64)
    assert A(x).shape == (3, A.size)
    assert A.seen(z).shape == A.adjoint(z).shape == x.shape
    torch.testing.assert_close((A(x) * z).sum(1), (x * A.adjoint(z)).flatten(1).sum(1))


@pytest.mark.parametrize("name", OPERATORS)
def test_the_norm_is_the_largest_singular_value(name):
    A = OPERATORS[name]
    dense = A(torch.eye(96).view(96, *SHAPE)).T
    assert A.norm(torch.device("cpu")) == pytest.approx(float(torch.linalg.matrix_norm(dense, 2)), rel=0.05)


@pytest.mark.parametrize("name", ["gaussian", "box"])
def test_a_blur_leaves_a_constant_image_as_it_is(name):
    torch.testing.assert_close(OPERATORS[name](torch.ones(1, *SHAPE)), torch.ones(1, 96))


def test_block_means_are_means_of_blocks():
    x = torch.arange(96.0).view(1, *SHAPE)
    means = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(OPERATORS["means"](x), means.flatten(1))
    assert torch.equal(OPERATORS["means"].seen(means.flatten(1)), means.repeat_interleave(2, 2).repeat_interleave(2, 3))
