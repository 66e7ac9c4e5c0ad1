"""A context y as a user gives it: classes by number, or reals in the units of the data."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.integers import require_held
from gencli.core.spec import Spec
from gencli.core.tensors import numbers


def checked(y: object, n: int, spec: Spec, *, precise: bool) -> Tensor:
    """The context of n rows: (n,) classes or (n, *) reals in data space, (n, 1) also as (n,).

    Args:
        y: a tensor, an array, lists of numbers.
        n: rows that it belongs to.
        spec: of the data.
        precise: whether float32 is too coarse for it.

    Raises:
        UsageError: it has another shape, a class that there is not, or a number that is not finite or
            would be rounded.
    """
    given = numbers("y", y)
    if not (spec.classes or spec.context):
        raise UsageError("y: this data has neither classes nor a context")
    if spec.context == (1,) and given.ndim == 1:
        given = given[:, None]
    shape = (n,) if spec.classes else (n, *spec.context)
    if tuple(given.shape) != shape:
        what = "classes" if spec.classes else "contexts"
        raise UsageError(f"y has shape {tuple(given.shape)}; {what} of {n} rows have {shape}")
    if not bool(torch.isfinite(given).all()):
        raise UsageError("y holds a value that is not finite (NaN or infinite)")
    if spec.classes:
        whole = given.long()
        if not bool(((given == whole) & (whole >= 0) & (whole < spec.classes)).all()):
            raise UsageError(f"y holds something else than the classes 0 to {spec.classes - 1}")
        return whole
    if given.is_floating_point() and given.dtype != torch.float64:
        if precise:
            raise UsageError(f"y is {str(given.dtype)[6:]}, which is too coarse for this context: give float64")
        return given.float()
    require_held(given.cpu().numpy(), "y")
    return given.double()
