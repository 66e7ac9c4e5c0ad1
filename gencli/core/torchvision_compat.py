"""The one place that imports torchvision.

Some builds of torchvision (such as a CPU wheel beside another build of torch) come without their compiled operators.
Importing them then fails with "operator torchvision::nms does not exist", because they describe operators that nobody
has defined, although gencli needs none of these (only pictures and downloads). Defining the two schemas first lets such
a build import; calling the operators would still fail, and a whole build is left as it is.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_OPERATORS = ("torchvision::nms", "torchvision::qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def torchvision(submodule: str = "") -> ModuleType:
    """Import torchvision, or a submodule of it such as ``datasets.utils``; to be called where it is needed.

    Raises:
        ImportError: torchvision is missing, or broken in another way.
    """
    name = f"torchvision.{submodule}" if submodule else "torchvision"
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise ImportError(f"torchvision does not import: {error}") from error

    # A failed import leaves half-made modules behind, which would be taken for whole ones.
    for module in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
        del sys.modules[module]
    for operator in _OPERATORS:
        torch.library.define(operator, _SCHEMA)
    return importlib.import_module(name)
