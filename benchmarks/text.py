"""Text: training steps of gencli's transformer, and cached and naive sampling, beside a bare GPT.

The bare loop is what nanoGPT does at its size for a CPU: 4 layers, 4 heads, 128 wide, context 64, batches of 12,
learned positions, AdamW, clipping, batches stacked from random places; nanoGPT is no package, so it is the peer, too.
Its cache holds keys and values while the window is not full: beyond, learned positions have it start anew each time.

    python -m benchmarks.text
    python -m benchmarks.text --compile
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.racing import Report, Work, arguments, benchmark, race, training
from gencli.core.noise import RowNoise
from gencli.core.spec import Given, Spec, Support
from gencli.data.split import WindowSplit
from gencli.models.autoregressive.transformer import Transformer
from gencli.samplers.ancestral import Ancestral

STEPS, TOKENS = 20, 255
T, B, WIDTH, LAYERS, HEADS = 64, 12, 128, 4, 4
SHAPE = [f"model.layers={LAYERS}", f"model.heads={HEADS}", f"model.width={WIDTH}"]


class Block(nn.Module):
    """GPT-2's block."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH, bias=False) for _ in range(2)])
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.into, self.back = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, h: Tensor, cache: dict[str, Tensor] | None = None) -> Tensor:
        n, t, _ = h.shape
        q, k, v = (z.view(n, t, HEADS, -1).transpose(1, 2) for z in self.qkv(self.norms[0](h)).split(WIDTH, dim=2))
        if cache is not None:
            if cache:
                k, v = torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)
            cache["k"], cache["v"] = k, v
        z = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
        h = h + self.out(z.transpose(1, 2).reshape(n, t, WIDTH))
        return h + self.back(F.gelu(self.into(self.norms[1](h))))


class GPT(nn.Module):
    """GPT-2 at this size."""

    def __init__(self, symbols: int, context: int) -> None:
        super().__init__()
        self.symbols, self.places = nn.Embedding(symbols, WIDTH), nn.Embedding(context, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm, self.head = nn.LayerNorm(WIDTH, bias=False), nn.Linear(WIDTH, symbols, bias=False)
        self.head.weight = self.symbols.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x, 0, None)

    def logits(self, x: Tensor, begin: int, caches: list[dict[str, Tensor]] | None) -> Tensor:
        """Of symbols x (n, t) at places begin, begin + 1, ...; with caches, those of places before are not needed."""
        h = self.symbols(x) + self.places.weight[begin : begin + x.shape[1]]
        for i, block in enumerate(self.blocks):
            h = block(h, None if caches is None else caches[i])
        return self.head(self.norm(h))

    @torch.no_grad()
    def generate(self, length: int, cached: bool) -> Tensor:
        """So many symbols after a first one, each given the window before it: (1, length + 1)."""
        caches: list[dict[str, Tensor]] = [{} for _ in self.blocks]
        x, fed = torch.zeros(1, 1, dtype=torch.long), 0
        context = self.places.num_embeddings
        for _ in range(length):
            if cached and x.shape[1] <= context:
                logits, fed = self.logits(x[:, fed:], fed, caches), x.shape[1]
            else:
                logits = self(x[:, -context:])
            x = torch.cat([x, torch.multinomial(logits[:, -1].softmax(-1), 1)], 1)
        return x


def train(report: Report, rounds: int, compiled: bool) -> None:
    symbols = ["data=hmm", "data.symbols=62", "data.states=1", f"data.window={T}"]
    own = ["optimizer.warmup_steps=0", "model=transformer", *SHAPE, *symbols, f"trainer.batch_size={B}"]
    with (
        training(own) as trainer,
        training([*own, "trainer.compile=true"]) if compiled else nullcontext() as quick,
    ):
        windows = trainer.parts.dataset.split("train")
        assert isinstance(windows, WindowSplit)
        text = windows.symbols.long()

        def bare(fused: bool) -> Callable[[], None]:
            model = GPT(62, T)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)

            def work() -> None:
                for _ in range(STEPS):
                    at = torch.randint(len(text) - T, (B,))
                    x = torch.stack([text[i : i + T] for i in at])
                    target = torch.stack([text[i + 1 : i + 1 + T] for i in at])
                    loss = F.cross_entropy(model(x).flatten(0, 1), target.flatten())
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    loss.item()

            return work

        works = {"gencli": lambda: trainer.steps(STEPS), "bare loop": bare(False), "bare loop, fused": bare(True)}
        if quick:
            works["gencli, compiled"] = lambda: quick.steps(STEPS)
        report.table(f"training, batch {B}, context {T}", race(works, rounds), STEPS)


@torch.no_grad()
def sample(report: Report, rounds: int) -> None:
    spec = Spec((TOKENS + 1,), Support("categorical", 65))
    model, bare = Transformer(spec, layers=LAYERS, heads=HEADS, width=WIDTH).eval(), GPT(65, TOKENS + 1).eval()

    def ours(length: int, cached: bool) -> Work:
        sampler = Ancestral(cached=cached)
        nothing = Given(torch.zeros(1, length, dtype=torch.long), torch.zeros(1, length, dtype=torch.bool))
        return lambda: sampler.sample(model, 1, None, RowNoise(0, torch.arange(1)), given=nothing)

    within: dict[str, Work] = {
        "gencli": ours(TOKENS, True),
        "gencli, naive": ours(TOKENS, False),
        "bare cache": lambda: bare.generate(TOKENS, True),
        "bare, naive": lambda: bare.generate(TOKENS, False),
    }
    report.table(f"{TOKENS} tokens at context {TOKENS + 1}", race(within, rounds), TOKENS, "tokens/s")
    beyond: dict[str, Work] = {
        "gencli": ours(1000, True),
        "bare cache": lambda: bare.generate(1000, True),
        "bare, naive": lambda: bare.generate(1000, False),
    }
    report.table(f"1,000 tokens at context {TOKENS + 1}", race(beyond, 2), 1000, "tokens/s")


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--compile", action="store_true", help="gencli's training compiled, too")
    asked = parser.parse_args()
    with benchmark("text", asked.threads) as report:
        torch.manual_seed(0)
        sample(report, asked.rounds)
        train(report, asked.rounds, asked.compile)
