"""Text: training steps of gencli's transformer against a bare GPT loop, and cached against naive sampling, in one run.

The bare loop is what nanoGPT does at its size for a CPU: 4 layers, 4 heads, 128 wide, context 64, batches of 12,
learned positions, AdamW, clipping, batches stacked from random places. Rounds are interleaved and medians compared;
times are those of one thread's processor, so that other work on the machine counts little.

    python -m benchmarks.text
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.racing import Report, benchmark, race, training
from gencli.core.noise import RowNoise
from gencli.core.spec import Given, Spec, Support
from gencli.data.split import WindowSplit
from gencli.models.autoregressive.transformer import Transformer
from gencli.models.distributions import Conditional

ROUNDS, STEPS, TOKENS = 5, 20, 256
T, B, WIDTH, LAYERS, HEADS = 64, 12, 128, 4, 4
SHAPE = [f"model.layers={LAYERS}", f"model.heads={HEADS}", f"model.width={WIDTH}"]


class Block(nn.Module):
    """GPT-2's block."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH, bias=False) for _ in range(2)])
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.into, self.back = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        n, t, _ = h.shape
        q, k, v = (z.view(n, t, HEADS, -1).transpose(1, 2) for z in self.qkv(self.norms[0](h)).split(WIDTH, dim=2))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(z.transpose(1, 2).reshape(n, t, WIDTH))
        return h + self.back(F.gelu(self.into(self.norms[1](h))))


class GPT(nn.Module):
    """GPT-2 at this size."""

    def __init__(self, symbols: int, context: int) -> None:
        super().__init__()
        self.symbols, self.places = nn.Embedding(symbols, WIDTH), nn.Embedding(context, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm, self.head = nn.LayerNorm(WIDTH, bias=False), nn.Linear(WIDTH, symbols, bias=False)
        self.head.weight = self.symbols.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.symbols(x) + self.places(torch.arange(x.shape[1])))))


def train(report: Report, overrides: list[str]) -> None:
    symbols = ["data=hmm", "data.symbols=62", "data.states=1", f"data.window={T}"]
    own = ["model=transformer", *SHAPE, *symbols, f"trainer.batch_size={B}"]
    with training(["optimizer.warmup_steps=0", *own, *overrides]) as trainer:
        windows = trainer.parts.dataset.split("train")
        assert isinstance(windows, WindowSplit)
        text = windows.symbols.long()
        bare = GPT(62, T)
        optimizer = torch.optim.AdamW(bare.parameters(), lr=1e-3)

        def bare_steps() -> None:
            for _ in range(STEPS):
                at = torch.randint(len(text) - T, (B,))
                x = torch.stack([text[i : i + T] for i in at])
                target = torch.stack([text[i + 1 : i + 1 + T] for i in at])
                loss = F.cross_entropy(bare(x).flatten(0, 1), target.flatten())
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
                optimizer.step()
                loss.item()

        works = {"bare": bare_steps, "gencli": lambda: trainer.steps(STEPS)}
        report.table(f"training, batch {B}, context {T}", race(works, ROUNDS + 1), STEPS)


@torch.no_grad()
def sample(report: Report) -> None:
    spec = Spec((TOKENS,), Support("categorical", 65))
    model, bare = Transformer(spec, layers=LAYERS, heads=HEADS, width=WIDTH).eval(), GPT(65, TOKENS).eval()

    def ours(length: int, cached: bool) -> Callable[[], None]:
        def work() -> None:
            noise = RowNoise(0, torch.arange(1))

            def pick(conditional: Conditional) -> Tensor:
                return conditional.sample(noise)

            nothing = Given(torch.zeros(1, length, dtype=torch.long), torch.zeros(1, length, dtype=torch.bool))
            model.decode(1, pick=pick, given=nothing, cached=cached)

        return work

    def naive() -> None:
        x = torch.zeros(1, 1, dtype=torch.long)
        for _ in range(TOKENS - 1):
            p = bare(x)[:, -1].softmax(-1)
            x = torch.cat([x, torch.multinomial(p, 1)], 1)

    within = {"bare, naive": naive, "gencli, naive": ours(TOKENS, False), "gencli": ours(TOKENS, True)}
    report.table(f"{TOKENS} tokens within the window, gencli cached", race(within, ROUNDS + 1), TOKENS, "tokens/s")
    beyond = {"gencli, naive": ours(1000, False), "gencli": ours(1000, True)}
    report.table("1000 tokens, gencli cached", race(beyond, 2), 1000, "tokens/s")


if __name__ == "__main__":
    with benchmark("text") as report:
        torch.manual_seed(0)
        sample(report)
        train(report, sys.argv[1:])
