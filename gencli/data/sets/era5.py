"""Hourly temperature over the United Kingdom, of ECMWF's reanalysis ERA5.

Hersbach et al., "The ERA5 global reanalysis", 2020. Contains modified Copernicus Climate Change Service information.
"""

from __future__ import annotations

import io
import math
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.options import Count, Natural
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.root import data_root, need
from gencli.data.split import TensorSplit
from gencli.data.transitions import stretches, transitions

FILE = "t2m_2019-03.npz"
SHAPE = (744, 33, 49)
TEST = 144


class ERA5UK(Lazy):
    """Temperature at 2 m on 33 x 49 points of a grid of a quarter degree, each hour of March 2019, in kelvin.

    x is the field ``lead`` hours after the latest of the fields in y. The test split is that of the last 144 hours, the
    validation split that of ``val`` hours before. Contains modified Copernicus Climate Change Service information.

    Args:
        lead: hours from the latest field of y to x.
        lags: hourly fields in y, along its channels, the latest one last.
        clock: whether cosine and sine of the hour of the day stand before them, as two channels.
        val: hours of the validation split.
        gap: hours that no split has, between two of them.
        root: the folder of data files.

    Raises:
        UsageError: (by ``split``) the file is missing, or is another one.
    """

    name = "era5_uk"
    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "image"

    def __init__(
        self,
        lead: Count = 1,
        lags: Count = 1,
        clock: bool = False,
        val: Natural = 72,
        gap: Natural = 6,
        root: str | None = None,
    ) -> None:
        super().__init__()
        self.lead, self.lags, self.clock = lead, lags, clock
        self.path = data_root(root) / "era5_uk" / FILE
        self.spec = Spec((1, *SHAPE[1:]), Support.parse(self.support), context=(lags + 2 * clock, *SHAPE[1:]))
        self.follows = lead if 1 in (lead, lags) else None  # else a forecast leaves out fields that y holds
        self.times = stretches(SHAPE[0], val, TEST, lags, lead, gap)

    def protocol(self) -> dict[str, object]:
        return {"lead": self.lead}

    def understood(self) -> list[str]:
        return ["era5_uk: contains modified Copernicus Climate Change Service information"]

    @cached_property
    def fields(self) -> tuple[Tensor, Tensor]:
        """All fields (744, 1, 33, 49) in kelvin, and the hour of the day of each (744,).

        Raises:
            ValueError: the file is another one.
        """
        source = (
            "fetch era5-2mt-2019-03-uk.grib of https://github.com/pydata/xarray-data and keep it as .npz (t2m, time)"
        )
        path = need(self.path, source)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                t2m, time = arrays["t2m"], arrays["time"]
        except Exception as error:  # numpy and zipfile raise errors of many kinds over a damaged file
            raise ValueError(quoted(str(error) or type(error).__name__, 120)) from error
        if t2m.shape != SHAPE or time.shape != SHAPE[:1] or not np.isfinite(t2m).all():
            raise UsageError(f"{self.path} is no field of {SHAPE} temperatures")
        hours = np.asarray(time, np.int64) % 24
        return torch.from_numpy(t2m.astype(np.float32))[:, None], torch.from_numpy(hours)

    def load(self, name: str) -> TensorSplit | None:
        if name not in self.times:
            return None
        at = self.times[name]
        t2m, hours = (values[at.start : at.stop][None] for values in self.fields)
        return transitions(t2m, self.lags, self.lead, dial(hours[0])[None] if self.clock else None)

    def following(self, y: Tensor, x: Tensor) -> Tensor:
        if not self.clock:
            return super().following(y, x)
        angle = torch.atan2(y[:, 1, 0, 0], y[:, 0, 0, 0])
        hour = (angle * 24 / (2 * math.pi)).round().long() + self.lead
        return torch.cat([dial(hour % 24).to(y), y[:, 3:], x.to(y)], 1)

    def to_image(self, x: Tensor) -> Tensor:
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        return ((x - low) / (high - low).clamp(min=1e-6)).float()


def dial(hours: Tensor) -> Tensor:
    """Cosine and sine (n, 2, 33, 49) of the hour of the day (n,), 0 to 23."""
    angle = 2 * math.pi * hours.double() / 24
    return torch.stack([angle.cos(), angle.sin()], 1).float()[:, :, None, None].expand(-1, -1, *SHAPE[1:]).contiguous()
