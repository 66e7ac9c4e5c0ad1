"""FID and KID in the features of a published network, by torch-fidelity (the extra ``fid``).

"GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (Heusel et al., 2017); "Demystifying
MMD GANs" (Binkowski et al., 2018). torch-fidelity keeps the arithmetic of the original Inception network and of its
resizing, which figures depend on; it downloads the weights unless they are given.
"""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar

import torch
import torch.utils.data
from torch import Tensor

from gencli.core.options import Count, Range
from gencli.core.torchvision_compat import torchvision
from gencli.data.base import Dataset
from gencli.metrics.base import Measured, SampleMetric, Samples
from gencli.models.base import Model


class _Images(torch.utils.data.Dataset[Tensor]):
    """RGB bytes (3, H, W) of examples, grey ones repeated."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.mul(255).round().to(torch.uint8).expand(-1, 3, -1, -1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def _torch_fidelity() -> ModuleType:
    """The package, which imports torchvision by itself.

    Raises:
        ImportError: it is not installed.
    """
    torchvision("transforms.functional")
    return importlib.import_module("torch_fidelity")


@dataclass(frozen=True, kw_only=True)
class Fidelity(SampleMetric):
    """What FID and KID share: a feature network of torch-fidelity.

    Args:
        network: its name in torch-fidelity: inception-v3-compat is the one of all published figures.
        weights: file of its weights; None: torch-fidelity downloads them.

    Raises:
        ValueError: torch-fidelity is not installed, there is no such file, or the data are no images.
    """

    needs = "images, and pip install gencli-nll[fid]"
    name: ClassVar[str]
    network: str = "inception-v3-compat"
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.file is not None and not self.file.is_file():
            raise ValueError(f"metrics.{self.name}.weights={self.weights}: there is no such file")

    @property
    def file(self) -> Path | None:
        """Of the weights."""
        return None if self.weights is None else Path(self.weights).expanduser()

    def check(self, dataset: Dataset, model: Model) -> None:
        if dataset.spec.kind != "image" or dataset.spec.shape[0] not in (1, 3):
            raise ValueError(f"metrics=[{self.name}] needs images; data={dataset.name} has shape {dataset.spec.shape}")
        try:
            _torch_fidelity()
        except ImportError as error:
            raise ValueError(
                f"metrics=[{self.name}] needs torch-fidelity: pip install gencli-nll[fid] ({error})"
            ) from error

    def computed(self, samples: Samples, **options: Any) -> dict[str, float]:
        """torch-fidelity's numbers for samples and reference.

        Raises:
            ValueError: the weights cannot be had, or torch-fidelity refuses.
        """
        pictures = [samples.dataset.to_image(x.cpu()) for x in (samples.x, samples.reference.x)]
        assert pictures[0] is not None
        assert pictures[1] is not None
        try:
            return _torch_fidelity().calculate_metrics(
                input1=_Images(pictures[0]),
                input2=_Images(pictures[1]),
                feature_extractor=self.network,
                feature_extractor_weights_path=None if self.file is None else str(self.file),
                cuda=samples.x.is_cuda,
                cache=False,
                rng_seed=samples.seed % 2**32,
                verbose=False,
                **options,
            )
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"metrics=[{self.name}]: torch-fidelity cannot measure with network={self.network}: {reason}. "
                f"Offline, give metrics.{self.name}.weights=FILE"
            ) from error

    @property
    def facts(self) -> dict[str, str]:
        """The weights' SHA-256, for the record."""
        return {} if self.file is None else {"weights_sha256": hashlib.sha256(self.file.read_bytes()).hexdigest()}


@dataclass(frozen=True, kw_only=True)
class FID(Fidelity):
    """The Fréchet distance of Inception features; biased by the number of samples, without a standard error."""

    name = "fid"

    def measure(self, samples: Samples) -> Measured:
        found = self.computed(samples, fid=True)
        return Measured(float(found["frechet_inception_distance"]), None, {}, self.facts)


@dataclass(frozen=True, kw_only=True)
class KID(Fidelity):
    """MMD^2 of Inception features with a cubic kernel, the mean over subsets; unbiased.

    ``deviation`` is that of the subsets, which is what papers print after the sign +-.

    Args:
        subsets: number of subsets.
        subset_size: samples in each.
    """

    name = "kid"
    subsets: Count = 100
    subset_size: Annotated[int, Range(low=2)] = 1000

    def measure(self, samples: Samples) -> Measured:
        least = min(len(samples.x), len(samples.reference.x))
        if least < self.subset_size:
            raise ValueError(f"metrics.kid.subset_size={self.subset_size}: there are {least} samples or examples")
        found = self.computed(samples, kid=True, kid_subsets=self.subsets, kid_subset_size=self.subset_size)
        deviation = float(found["kernel_inception_distance_std"])
        return Measured(float(found["kernel_inception_distance_mean"]), None, {"deviation": deviation}, self.facts)
