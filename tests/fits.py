"""Estimates that minimise a loss a row, with the pull of each row: tests hold two of them against each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Fit:
    """An estimate that minimises the mean of a loss a row, and what each row has pulled it by.

    theta^ - theta = mean of the rows of ``pull`` to first order, -H^-1 times the gradient of a row's loss, so that the
    difference of two estimates on the same rows has the covariance of the difference of their pulls, over N.
    """

    def __init__(self, parameters: list[Tensor], loss: Callable[[], Tensor], rows: Callable[[], Tensor]) -> None:
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=300, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)
        self.theta, h = torch.nn.utils.parameters_to_vector(parameters).detach().clone(), 1e-4
        of_rows, curvature = [], []
        for k in range(len(self.theta)):
            ends = []
            for sign in (1, -1):
                torch.nn.utils.vector_to_parameters(self.theta + sign * h * torch.eye(len(self.theta))[k], parameters)
                closure()
                slope = torch.cat([p.grad.flatten() for p in parameters])
                ends.append((rows().detach(), slope.clone()))
            of_rows.append((ends[0][0] - ends[1][0]) / (2 * h))
            curvature.append((ends[0][1] - ends[1][1]) / (2 * h))
        torch.nn.utils.vector_to_parameters(self.theta, parameters)
        H, G = torch.stack(curvature), torch.stack(of_rows, 1)
        free = H.diagonal().abs() > 1e-8  # a triangular factor leaves some parameters without effect
        self.theta, self.pull = self.theta[free], -torch.linalg.solve(H[free][:, free], G[:, free].T).T
        self.free = free
