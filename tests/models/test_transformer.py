"""Models of sequences: the chain rule over windows, cached decoding, prompts, n-grams."""

import math
from collections import Counter, defaultdict

import pytest
import torch
from refusals import built
from sequences import text

from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise
from gencli.core.spec import Batch, Given, Spec, Support
from gencli.data.split import WindowSplit
from gencli.models.autoregressive.transformer import Transformer
from gencli.models.base import log_likelihood
from gencli.models.classical.ngram import NGram
from gencli.nn.attention import rotate_

SMALL = {"layers": 2, "heads": 2, "width": 16}


def transformer(shape, support, classes=None, scale=0.3, **options):
    """A transformer in fp64 away from its start, where it knows little."""
    torch.manual_seed(0)
    model = Transformer(Spec(shape, Support.parse(support), classes), **SMALL, **options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, dtype=torch.float64)
    return model


def ngram(window, V, order, sequence=None):
    model = NGram(Spec((window,), Support("categorical", V)), order=order)
    split = WindowSplit(text(V=V) if sequence is None else sequence, window, max(1, window // 2))
    rows = split.gather(torch.arange(len(split)))
    model.initialize_from(Batch(rows.x.long(), given=rows.given))
    return model


def sampled(model, n, given=None, cached=True, y=None, seed=0):
    noise = RowNoise(seed, torch.arange(n))
    return model.decode(n, y, pick=lambda conditional: conditional.sample(noise), given=given, cached=cached)


@pytest.mark.parametrize("build", [lambda: transformer((12,), "categorical:5"), lambda: ngram(12, 5, 3)])
@torch.no_grad()
def test_windows_add_up_to_the_chain_rule(build):
    """A text that is one window: the rows of any stride add up to log p(text); so do parts given all before them."""
    model, x = build(), text(12)
    whole = model.log_prob(x[None].long())
    for stride in (1, 5, 12):
        split = WindowSplit(x, 12, stride)
        rows = split.gather(torch.arange(len(split)))
        assert log_likelihood(model, Batch(rows.x.long(), given=rows.given)).sum() == pytest.approx(float(whole))
    for cut in (1, 6, 11):
        given = torch.tensor([cut])
        first = model.log_conditionals(x[None].long())[0, :cut].sum()
        assert first + model.log_prob(x[None].long(), None, given) == pytest.approx(float(whole))


def test_an_ngram_sees_enough_of_a_window():
    """With order - 1 symbols given at least, the windows' sum is that of the undivided text."""
    x = text(100)
    model = ngram(12, 5, 4)
    split = WindowSplit(x, 12, 9)
    rows = split.gather(torch.arange(len(split)))
    parts = model.log_prob(rows.x.long(), None, rows.given).sum()
    assert parts == pytest.approx(float(model.log_prob(x[None].long())))


EVERY = [
    ("transformer", lambda: transformer((6,), "categorical:4"), None),
    ("swiglu", lambda: transformer((6,), "categorical:4", activation="swiglu", tied=False), None),
    ("relu2", lambda: transformer((6,), "categorical:4", activation="relu2"), None),
    ("conditional", lambda: transformer((5,), "levels:3", 3, conditional=True), torch.tensor([2])),
    ("binary image", lambda: transformer((1, 3, 3), "binary"), None),
    ("colours", lambda: transformer((3, 1, 2), "levels:3"), None),
    ("ngram", lambda: ngram(6, 4, 3), None),
    ("unigram", lambda: ngram(6, 4, 1), None),
]


every = pytest.mark.parametrize(("build", "y"), [case[1:] for case in EVERY], ids=[case[0] for case in EVERY])


def states(model):
    K, D = model.spec.support.levels, model.spec.dim
    x = torch.cartesian_prod(*[torch.arange(K)] * D).view(-1, *model.spec.shape)
    return x.double() if model.spec.support.kind == "binary" else x


@every
@torch.no_grad()
def test_probabilities_of_all_states_add_up_to_one(build, y):
    model = build()
    x = states(model)
    log_p = model.log_prob(x, None if y is None else y.expand(len(x)))
    assert log_p.exp().sum() == pytest.approx(1, abs=1e-6)
    assert log_p.exp().max() < 0.9  # and they are not all in one place


@every
@torch.no_grad()
def test_cached_equals_naive_and_samples_follow_the_model(build, y):
    model, n = build(), 500
    many = None if y is None else y.expand(n)
    x = sampled(model, n, y=many)
    assert torch.equal(x, sampled(model, n, y=many, cached=False))
    x = x.double() if model.spec.support.kind == "binary" else x
    surprise = -model.log_prob(x, many)
    everything = states(model)
    log_p = model.log_prob(everything, None if y is None else y.expand(len(everything))).double()
    entropy = -(log_p.exp() * log_p).sum()
    assert abs(surprise.double().mean() - entropy) < 4 * surprise.std() / math.sqrt(n)


@pytest.mark.parametrize("shape", [(6,), (2, 2, 2)])
def test_conditionals_do_not_see_what_comes_after(shape):
    """The gradient of conditional t with respect to the embedding of symbol s is exactly 0 for s >= t, not before."""
    model = transformer(shape, "categorical:4")
    x = torch.randint(0, 4, (1, *shape), generator=torch.Generator().manual_seed(1))
    embedded = []
    hook = model.symbols.register_forward_hook(lambda m, i, out: embedded.append(out.requires_grad_()) or out)
    model.symbols.weight.requires_grad_(False)
    line = model._line(model.log_conditionals(x))[0]
    hook.remove()
    for t, conditional in enumerate(line):
        gradient = torch.autograd.grad(conditional, embedded[0], retain_graph=True)[0].abs().sum(-1)[0]
        assert (gradient[t:] == 0).all()
        assert (gradient[:t] > 0).all()


def test_raster_order_of_colours():
    """The first pixel's channels come first: changing the last pixel moves no other conditional."""
    model = transformer((2, 1, 2), "levels:3")
    a = torch.tensor([[[[0, 1]], [[2, 0]]]])
    b = a.clone()
    b[0, 1, 0, 1] = 2
    same = model.log_conditionals(a) == model.log_conditionals(b)
    assert same.tolist() == [[[[True, True]], [[True, False]]]]


@torch.no_grad()
@pytest.mark.parametrize(("prompt", "length"), [(3, 8), (0, 30), (5, 29), (12, 30), (21, 30)])
def test_prompts_and_texts_beyond_the_window(prompt, length):
    for model in (transformer((8,), "categorical:5"), ngram(8, 5, 3)):
        x = torch.zeros(4, length, dtype=torch.long)
        x[:, :prompt] = text(prompt).long()
        given = Given(x, (torch.arange(length) < prompt).expand(4, -1))
        cached, naive = (sampled(model, 4, given, cached=c) for c in (True, False))
        assert torch.equal(cached, naive)
        assert torch.equal(cached[:, :prompt], x[:, :prompt])
        assert len(cached.unique(dim=0)) == 4


@torch.no_grad()
def test_beyond_the_window_the_last_half_goes_on():
    """Symbol t of a long text has the conditional that the window's model gives it, as held-out text is scored."""
    model, seen = transformer((6,), "categorical:4"), []
    noise = RowNoise(0, torch.arange(2))

    def pick(conditional):
        seen.append(conditional.logits.log_softmax(-1))
        return conditional.sample(noise)

    x = torch.zeros(2, 15, dtype=torch.long)
    x = model.decode(2, pick=pick, given=Given(x, torch.zeros(2, 15, dtype=torch.bool)))
    split = WindowSplit(x[0].to(torch.uint8), 6, 3)
    rows = split.gather(torch.arange(len(split)))
    said = sum(float(logits[0, x[0, t]]) for t, logits in enumerate(seen))
    assert said == pytest.approx(float(model.log_prob(rows.x.long(), None, rows.given).sum()))


@torch.no_grad()
def test_images_are_completed_in_raster_order():
    model = transformer((1, 3, 3), "levels:3")
    mask = torch.zeros(5, 1, 3, 3, dtype=torch.bool)
    mask[:, :, 1] = True
    given = Given(torch.full((5, 1, 3, 3), 2), mask)
    cached, naive = (sampled(model, 5, given, cached=c) for c in (True, False))
    assert torch.equal(cached, naive)
    assert (cached[:, :, 1] == 2).all()
    free = sampled(model, 5)
    assert torch.equal(free[:, :, 0], cached[:, :, 0])  # what comes before the given part does not know it


def test_witten_bell_equals_a_dictionary():
    sequence, V, order = text(300, 6), 6, 4
    model = ngram(16, V, order, sequence)
    train = sequence.tolist()
    after = defaultdict(Counter)
    for k in range(1, order + 1):
        for i in range(len(train) - k + 1):
            after[tuple(train[i : i + k - 1])][train[i + k - 1]] += 1

    def p(w, h):
        lower = 1 / V if not h else p(w, h[1:])
        if len(h) == 0 or h in after:
            c = after[h]
            return (c[w] + len(c) * lower) / (sum(c.values()) + len(c))
        return lower

    x = text(60, V, seed=3).tolist()
    slow = [math.log(p(w, tuple(x[max(0, t - order + 1) : t]))) for t, w in enumerate(x)]
    fast = model.log_conditionals(torch.tensor([x]))[0]
    assert torch.allclose(fast, torch.tensor(slow).double(), atol=1e-12)


def test_counts_travel_with_the_state():
    model = ngram(6, 4, 3)
    other = NGram(model.spec, order=3)
    other.load_state_dict(model.state_dict())
    x = text(6, 4)[None].long()
    assert torch.equal(other.log_prob(x), model.log_prob(x))


SYMBOLS = Spec((4,), Support("categorical", 3))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Transformer(Spec((4,), Support("categorical", 3)), width=10, heads=4), "model.width"),
        (lambda: built("model", Transformer, SYMBOLS, activation="relu"), "gelu, relu2, swiglu"),
        (lambda: built("model", Transformer, SYMBOLS, dropout=1.0), "model.dropout"),
        (lambda: NGram(Spec((4,), Support("categorical", 65)), order=12), "1 to 10 with 65 symbols"),
        (lambda: NGram(Spec((4,), Support("levels", 3), 2), conditional=True), "model.conditional"),
    ],
)
def test_refusals_of_models(build, message):
    with pytest.raises((UsageError, ValueError), match=message):
        build()


def test_rotation_takes_bf16():
    """Autocast on a GPU hands it over as it is; that of a CPU does not, so this calls the function itself."""
    x = torch.randn(2, 3, 1, 4)
    turn = torch.polar(torch.ones(3, 1, 2), torch.rand(3, 1, 2))
    assert rotate_(x.bfloat16(), turn).dtype == torch.bfloat16
    assert torch.allclose(rotate_(x.bfloat16(), turn).float(), rotate_(x, turn), atol=0.05)
