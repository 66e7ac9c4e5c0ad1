"""Simulated dynamical systems with process noise of known size: S_(k+1) = F(S_k) + sigma eps.

F is the flow of dS/dt = f(S) over a step dt, by classical Runge-Kutta steps of fixed size, or in closed form. So the
density of a step is N(F(y), sigma^2 I) whatever F is, and its entropy is known:

    H(x given y) = D / 2 ln(2 pi e sigma^2)
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from gencli.core.noise import mix_seed
from gencli.core.options import Count, Finite, NonNegative, Positive, Range, Seed
from gencli.core.spec import Spec, Support
from gencli.core.tensors import LOG_2PI
from gencli.data.lazy import Lazy
from gencli.data.split import SPLITS, TensorSplit
from gencli.data.transitions import transitions


class Dynamics(Lazy):
    """Trajectories of a system, each from a start of its own; x is the state after y.

    Splits are independent trajectories. ``spinup``: steps from the start to the first state, in which a trajectory
    forgets where it began.

    Args:
        dim: D.
        dt: time of a step.
        noise: sigma, standard deviation of each coordinate's noise in a step.
        length: rows of a trajectory.
        seed: of starts and noise.
        sizes: trajectories of train, val, test.
    """

    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"
    spinup: ClassVar[int] = 0
    follows = 1

    def __init__(self, dim: int, dt: float, noise: float, length: int, seed: int, sizes: tuple[int, int, int]) -> None:
        super().__init__()
        self.spec = Spec((dim,), Support.parse(self.support), context=(dim,))
        self.dt, self.noise, self.length, self.seed = dt, noise, length, seed
        self.sizes = dict(zip(SPLITS, sizes, strict=True))
        self.entropy = 0.5 * dim * (LOG_2PI + 1) + dim * math.log(noise)

    @abstractmethod
    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """States (n, D) in float64 from which trajectories begin."""

    @abstractmethod
    def advance(self, s: Tensor) -> Tensor:
        """F(S): states (n, D) a step later, without noise, in float64."""

    def log_density(self, x: Tensor, y: Tensor | None = None) -> Tensor | None:
        if y is None:
            return None  # of the states themselves, where they are in the long run
        z = (x.double() - self.advance(y)) / self.noise
        return -0.5 * z.square().sum(1) - x.shape[1] * (math.log(self.noise) + 0.5 * LOG_2PI)

    def simulate(self, s: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """Trajectories (n, steps + 1, D) from states (n, D), which they begin with."""
        states = [s.double()]
        for _ in range(steps):
            eps = torch.randn(s.shape, generator=generator, dtype=torch.float64)
            states.append(self.advance(states[-1]) + self.noise * eps)
        return torch.stack(states, 1)

    def load(self, name: str) -> TensorSplit:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, 1 + SPLITS.index(name)))
        s = self.start(self.sizes[name], generator)
        if self.spinup:
            s = self.simulate(s, self.spinup, generator)[:, -1]
        states = self.simulate(s, self.length, generator)
        if not bool(states.isfinite().all()):
            raise ValueError(
                f"a trajectory leaves all bounds: data.dt={self.dt} or data.noise={self.noise} is too large"
            )
        return transitions(states.float())


class Differential(Dynamics):
    """dS/dt = f(S), by the classical Runge-Kutta method in ``substeps`` equal parts of a step."""

    substeps: ClassVar[int] = 4

    @abstractmethod
    def velocity(self, s: Tensor) -> Tensor:
        """f(S) = dS/dt of states (n, D)."""

    def advance(self, s: Tensor) -> Tensor:
        """F(S): states (n, D) a step later, without noise, in float64."""
        s, h = s.double(), self.dt / self.substeps
        for _ in range(self.substeps):
            k1 = self.velocity(s)
            k2 = self.velocity(s + 0.5 * h * k1)
            k3 = self.velocity(s + 0.5 * h * k2)
            k4 = self.velocity(s + h * k3)
            s = s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return s


class Pendulum(Differential):
    """A pendulum without friction: d theta/dt = omega, d omega/dt = -sin theta.

    Trajectories begin at theta in [-2, 2] and omega in [-1, 1], from where noise alone carries it over the top.

    Args:
        dt: time of a step; small swings take 2 pi.
        noise: sigma, of theta and omega.
        length: rows of a trajectory.
        seed: of starts and noise.
        train: training trajectories.
        val: validation trajectories.
        test: test trajectories.
    """

    name = "pendulum"

    def __init__(
        self,
        dt: Positive = 0.2,
        noise: Positive = 0.02,
        length: Count = 100,
        seed: Seed = 0,
        train: Count = 200,
        val: Count = 20,
        test: Count = 50,
    ) -> None:
        super().__init__(2, dt, noise, length, seed, (train, val, test))

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        u = 2 * torch.rand(n, 2, generator=generator, dtype=torch.float64) - 1
        return u * torch.tensor([2.0, 1.0], dtype=torch.float64)

    def velocity(self, s: Tensor) -> Tensor:
        theta, omega = s.unbind(1)
        return torch.stack([omega, -theta.sin()], 1)


class Lorenz63(Differential):
    """Three equations of convection, with Lorenz's parameters 10, 28 and 8/3.

    dx/dt = 10 (y - x),  dy/dt = x (28 - z) - y,  dz/dt = x y - 8/3 z. "Deterministic nonperiodic flow" (Lorenz, 1963).

    Args:
        dt: time of a step; errors grow by e in about 1.1.
        noise: sigma.
        length: rows of a trajectory.
        seed: of starts and noise.
        train: training trajectories.
        val: validation trajectories.
        test: test trajectories.
    """

    name = "lorenz63"
    spinup = 200

    def __init__(
        self,
        dt: Positive = 0.05,
        noise: Positive = 0.2,
        length: Count = 200,
        seed: Seed = 0,
        train: Count = 100,
        val: Count = 10,
        test: Count = 50,
    ) -> None:
        super().__init__(3, dt, noise, length, seed, (train, val, test))

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        centre = torch.tensor([0.0, 0.0, 25.0], dtype=torch.float64)
        return centre + 5 * torch.randn(n, 3, generator=generator, dtype=torch.float64)

    def velocity(self, s: Tensor) -> Tensor:
        x, y, z = s.unbind(1)
        return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], 1)


class Lorenz96(Differential):
    """A ring of D places of an atmosphere: d s_i/dt = (s_(i+1) - s_(i-2)) s_(i-1) - s_i + forcing.

    "Predictability: a problem partly solved" (Lorenz, 1996).

    Args:
        dimension: D.
        forcing: 8 is chaotic.
        dt: time of a step; 0.05 is called six hours.
        noise: sigma.
        length: rows of a trajectory.
        seed: of starts and noise.
        train: training trajectories.
        val: validation trajectories.
        test: test trajectories.
    """

    name = "lorenz96"
    spinup = 200
    substeps = 2

    def __init__(
        self,
        dimension: Annotated[int, Range(low=4)] = 40,
        forcing: Finite = 8.0,
        dt: Positive = 0.05,
        noise: Positive = 0.3,
        length: Count = 100,
        seed: Seed = 0,
        train: Count = 200,
        val: Count = 20,
        test: Count = 50,
    ) -> None:
        super().__init__(dimension, dt, noise, length, seed, (train, val, test))
        self.forcing = forcing

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        return self.forcing + torch.randn(n, self.spec.dim, generator=generator, dtype=torch.float64)

    def velocity(self, s: Tensor) -> Tensor:
        return (s.roll(-1, 1) - s.roll(2, 1)) * s.roll(1, 1) - s + self.forcing


class Kepler(Differential):
    """A planet in the plane around a star of mass 1: position q and velocity v, dq/dt = v, dv/dt = -q / |q|^3.

    Trajectories begin anywhere on an ellipse of semi-major axis 1 and eccentricity up to 0.4, in any direction.

    Args:
        dt: time of a step; a year takes 2 pi.
        noise: sigma, of positions and velocities.
        length: rows of a trajectory.
        seed: of starts and noise.
        train: training trajectories.
        val: validation trajectories.
        test: test trajectories.
    """

    name = "kepler"

    def __init__(
        self,
        dt: Positive = 0.1,
        noise: Positive = 0.005,
        length: Count = 63,
        seed: Seed = 0,
        train: Count = 400,
        val: Count = 40,
        test: Count = 100,
    ) -> None:
        super().__init__(4, dt, noise, length, seed, (train, val, test))

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(n, 3, generator=generator, dtype=torch.float64)
        e, E, turn = 0.4 * u[:, 0], 2 * math.pi * u[:, 1], 2 * math.pi * u[:, 2]
        narrow = (1 - e**2).sqrt()
        r = 1 - e * E.cos()
        q = torch.stack([E.cos() - e, narrow * E.sin()], 1)  # E is the eccentric anomaly
        v = torch.stack([-E.sin() / r, narrow * E.cos() / r], 1)
        rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], 1).view(n, 2, 2)
        return torch.cat([(rotation @ q[:, :, None])[..., 0], (rotation @ v[:, :, None])[..., 0]], 1)

    def velocity(self, s: Tensor) -> Tensor:
        q, v = s.chunk(2, 1)
        return torch.cat([v, -q / q.square().sum(1, keepdim=True) ** 1.5], 1)


class Advection(Dynamics):
    """A damped wave on a ring of circumference 2 pi: du/dt = -speed du/dx + diffusion d^2u/dx^2 - u / 5.

    F is exact: the wave number k is multiplied by exp(-dt (i speed k + diffusion k^2 + 1/5)). All states are drawn
    from the stationary law, the normal of mean 0 in which k has variance sigma^2 / (1 - |multiplier|^2).

    Args:
        dimension: D, places on the ring.
        speed: of the wave.
        diffusion: how fast it flattens.
        dt: time of a step.
        noise: sigma.
        length: rows of a trajectory.
        seed: of starts and noise.
        train: training trajectories.
        val: validation trajectories.
        test: test trajectories.
    """

    name = "advection"

    def __init__(
        self,
        dimension: Annotated[int, Range(low=3)] = 32,
        speed: Finite = 1.0,
        diffusion: NonNegative = 0.02,
        dt: Positive = 0.2,
        noise: Positive = 0.1,
        length: Count = 100,
        seed: Seed = 0,
        train: Count = 100,
        val: Count = 10,
        test: Count = 50,
    ) -> None:
        super().__init__(dimension, dt, noise, length, seed, (train, val, test))
        k = torch.arange(dimension // 2 + 1, dtype=torch.float64)
        decay = (-dt * (diffusion * k.square() + 0.2)).exp()
        self.multiplier = torch.polar(decay, -dt * speed * k)
        if dimension % 2 == 0:  # of the shortest wave a real field has the cosine only
            self.multiplier[-1] = self.multiplier[-1].real.clone()

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        eps = torch.randn(n, self.spec.dim, generator=generator, dtype=torch.float64)
        deviation = self.noise / (1 - self.multiplier.abs().square()).sqrt()
        return torch.fft.irfft(torch.fft.rfft(eps) * deviation, self.spec.dim)

    def advance(self, s: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(s.double()) * self.multiplier, self.spec.dim)
