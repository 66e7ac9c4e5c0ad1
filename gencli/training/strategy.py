"""How the processes of a training share its weights: each has them all (ddp), or a part of each (fsdp)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gencli.config.sections import TrainerOptions
from gencli.core import distributed
from gencli.core.errors import UsageError
from gencli.core.noise import Noise
from gencli.core.spec import Batch
from gencli.objectives.base import Loss, Turn
from gencli.run.assembly import Parts
from gencli.training.optim import gradient_norm

COPIES = 6
"""Of the weights in float32 that ddp has on each GPU: weights, gradients, two moments, average, a message."""

SHARE = 1 / 3
"""Of a GPU's memory that these may take before ``auto`` shards them: activations need the rest."""


class Replicas:
    """Each process has all weights, and gradients are averaged. One process alone is the same without a message.

    The methods are what any strategy does. ``own`` is what an optimizer moves and the average follows, ``whole`` tells
    when modules may be called from outside of a loss.
    """

    def own(self, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """What this process keeps of each parameter."""
        return list(parameters)

    def loss(self, turn: Turn, batch: Batch, noise: Noise) -> Loss:
        """The loss of a turn, to be differentiated once."""
        return turn.loss(batch, noise)

    def reduce(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Means over processes: gradients, which those of ``own`` are given, and the loss, which is returned."""
        return distributed.average_gradients(parameters, loss)

    def norm(self, own: Sequence[nn.Parameter]) -> Tensor:
        """The 2-norm of all gradients together, over all processes."""
        return gradient_norm(own)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Modules have whole parameters meanwhile; what is written to them is lost."""
        yield

    def end(self) -> None:
        """Modules have whole parameters from now on, and are trained no more."""

    def gathered(self, tensors: Mapping[str, Tensor], own: nn.Parameter | None = None) -> dict[str, Tensor]:
        """Whole tensors, for a file; where processes have parts all have to ask, and the first alone is answered.

        Args:
            tensors: parameters and buffers by name, as modules have them.
            own: else they are its moments or its average.
        """
        return dict(tensors)

    def load(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Whole tensors into a module.

        Raises:
            RuntimeError: they are of another module.
        """
        module.load_state_dict(dict(tensors))

    def parts(self, tensors: Mapping[str, Tensor], own: nn.Parameter) -> dict[str, Tensor]:
        """What this process keeps of the whole moments of ``own``."""
        return dict(tensors)


class Shards(Replicas):
    """Each process keeps a part of each parameter, of its gradient, moments and average: torch's ``fully_shard``.

    A loss calls any method of model and objective, so the call of the loss is the forward pass that gathers them.
    Scalars stay whole. Made once the modules have the weights that training starts from; parameters are others then.

    Args:
        model: and
        objective: whose parameters are sharded.
        device: of this process.
    """

    def __init__(self, model: nn.Module, objective: nn.Module, device: torch.device) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor, distribute_tensor

        self._sharded, self._distributed = DTensor, distribute_tensor
        self.mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        self.call = _Call(model, objective)
        self._hooks = {key for module in self.call.modules() for hooks in _hooks(module) for key in hooks}
        scalars = {p for p in self.call.parameters() if not p.dim()}
        fully_shard(self.call, mesh=self.mesh, reshard_after_forward=False, ignored_params=scalars)
        sharded: list[Any] = [p for p in self.call.parameters() if p not in scalars]
        self._own: dict[nn.Parameter, nn.Parameter] = {p: self._local(p) for p in sharded}
        self._of = {own: p for p, own in self._own.items()}

    def _local(self, p: Any) -> nn.Parameter:
        """A parameter that shares the memory of this process's part."""
        return nn.Parameter(p.detach().to_local(), requires_grad=p.requires_grad)

    def own(self, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        return [self._own.get(p, p) for p in parameters]

    def loss(self, turn: Turn, batch: Batch, noise: Noise) -> Loss:
        return Loss(*self.call(partial(turn.loss, batch, noise)))

    def reduce(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        for p in parameters:
            if p in self._own:
                gradient: Any = p.grad
                own = self._own[p]
                own.grad = torch.zeros_like(own) if gradient is None else gradient.to_local()
                p.grad = None
        return distributed.average_gradients([p for p in parameters if p not in self._own], loss)

    def norm(self, own: Sequence[nn.Parameter]) -> Tensor:
        device = self.mesh.device_type
        shards = gradient_norm([p for p in own if p in self._of]).to(device).square()
        squared = distributed.total(shards) + gradient_norm([p for p in own if p not in self._of]).to(device).square()
        return squared.sqrt()

    @contextmanager
    def whole(self) -> Iterator[None]:
        self.call.unshard()  # type: ignore[operator]
        try:
            yield
        finally:
            self.call.reshard()  # type: ignore[operator]

    def end(self) -> None:
        self.call.unshard()  # type: ignore[operator]
        plain: dict[nn.Parameter, nn.Parameter] = {}
        for module in self.call.modules():
            for name, p in module.named_parameters(recurse=False, remove_duplicate=False):
                setattr(module, name, plain.setdefault(p, nn.Parameter(p.detach(), requires_grad=p.requires_grad)))
            for hooks in _hooks(module):  # by which a dictionary of state would shard them again
                for key in hooks.keys() - self._hooks:
                    del hooks[key]

    def gathered(self, tensors: Mapping[str, Tensor], own: nn.Parameter | None = None) -> dict[str, Tensor]:
        like: Any = None if own is None else self._of.get(own)
        found = {}
        for name, t in tensors.items():
            sharded: Any = t
            if like is not None and own is not None and t.shape == own.shape:
                sharded = self._sharded.from_local(
                    t, self.mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
                )
            if isinstance(sharded, self._sharded):
                full: Tensor = cast(Any, sharded).detach().full_tensor()
                t = full.cpu() if dist.get_rank() == 0 else full.new_empty(0)
            found[name] = t
        return found

    @torch.no_grad()
    def load(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        known = module.state_dict()
        for name in sorted(known.keys() | tensors.keys()):
            shapes = [tuple(some[name].shape) if name in some else None for some in (known, tensors)]
            if shapes[0] != shapes[1]:
                raise RuntimeError(f"{name} has shape {shapes[0]} in the model and {shapes[1]} in the checkpoint")
        for name, mine in known.items():
            if isinstance(mine, self._sharded):
                mine.to_local().copy_(self._part(tensors[name], mine))
            else:
                mine.copy_(tensors[name])

    def parts(self, tensors: Mapping[str, Tensor], own: nn.Parameter) -> dict[str, Tensor]:
        like = self._of.get(own)
        return {
            name: self._part(t, like) if like is not None and t.shape == like.shape else t
            for name, t in tensors.items()
        }

    def _part(self, whole: Tensor, like: Any) -> Tensor:
        """What this process has of a tensor that every process has."""
        there = self._distributed(whole.to(like.device), self.mesh, like.placements, src_data_rank=None)
        return cast(Tensor, cast(Any, there).to_local())


def _hooks(module: nn.Module) -> tuple[dict[int, Any], ...]:
    """What is called when a module makes or loads a dictionary of its state, by numbers that are used once."""
    return module._state_dict_pre_hooks, module._load_state_dict_pre_hooks, module._load_state_dict_post_hooks


class _Call(nn.Module):
    """Model and objective as one module, whose forward pass is a loss."""

    def __init__(self, model: nn.Module, objective: nn.Module) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, loss: Callable[[], Loss]) -> tuple[Tensor, dict[str, Tensor]]:
        found = loss()
        return found.value, found.logs


def settled(options: TrainerOptions, parts: Parts, world: distributed.World) -> Literal["ddp", "fsdp"]:
    """``trainer.strategy``, where ``auto`` is settled: shards where the state of training would fill a GPU.

    Raises:
        UsageError: there is nothing to share, or something that does not go together.
    """
    if options.strategy == "fsdp":
        if world.size == 1:
            raise UsageError(
                "trainer.strategy=fsdp shards weights over processes, and this is one: "
                "torchrun --nproc-per-node=2 -m gencli train ..."
            )
        if against := _against(options, parts):
            raise UsageError(f"trainer.strategy=fsdp does not go with {against}: trainer.strategy=ddp")
        return "fsdp"
    if options.strategy == "ddp" or world.size == 1 or parts.device.type != "cuda" or _against(options, parts):
        return "ddp"
    count = sum(p.numel() for module in (parts.model, parts.objective) for p in module.parameters())
    memory = torch.cuda.get_device_properties(parts.device).total_memory
    return "fsdp" if COPIES * 4 * count > SHARE * memory else "ddp"


def _against(options: TrainerOptions, parts: Parts) -> str:
    """Why weights cannot be shared; empty: nothing is against it."""
    if not parts.objective.shards:
        return f"{type(parts.objective).__name__}, which needs whole weights between steps"
    if options.precision == "fp16":
        return "trainer.precision=fp16, whose scale every process finds by itself"
    return "trainer.compile=true" if options.compile is True else ""
