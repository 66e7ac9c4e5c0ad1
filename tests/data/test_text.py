"""Text as data, the models that read it, and the number in nats per symbol."""

import itertools
import json
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from estimates import SOURCE
from refusals import built

import gencli
from gencli.cli import main as cli
from gencli.cli.compare import compare
from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise
from gencli.core.spec import Batch, Given, Spec, Support
from gencli.data.root import data_root
from gencli.data.sets.hmm import HMM
from gencli.data.sets.text import Alphabet, Text8, TextFile, TinyShakespeare
from gencli.data.split import WindowSplit
from gencli.estimators.base import Shared
from gencli.models.autoregressive.transformer import Transformer
from gencli.models.base import log_likelihood
from gencli.models.classical.ngram import NGram
from gencli.nn.attention import rotate
from gencli.run.record import nll_record
from gencli.run.scoring import Scores

SMALL = {"layers": 2, "heads": 2, "width": 16}
PLAY = "to be, or not to be: that is the question. whether 'tis nobler in the mind to suffer\n" * 30


def text(n=200, V=5, seed=0):
    return torch.randint(0, V, (n,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


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


# --- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("length", [7, 8, 12, 30])
def test_held_out_windows_score_every_symbol_once_in_the_stated_context(length, stride):
    split = WindowSplit(torch.arange(length, dtype=torch.uint8), 7, stride)
    rows = split.gather(torch.arange(len(split)))
    assert rows.x.shape == (len(split), 7)
    scored = [row[given:].tolist() for row, given in zip(rows.x, rows.given.tolist(), strict=True)]
    assert list(itertools.chain(*scored)) == list(range(length))
    assert [len(row) for row in scored] == split.counts.tolist()
    assert rows.given[0] == 0
    assert all(given >= 7 - stride for given in rows.given[1:].tolist())


def test_training_reads_every_window():
    split = WindowSplit(torch.arange(10, dtype=torch.uint8), 4)
    batch = split.gather(torch.arange(len(split)))
    assert batch.x.tolist() == [list(range(i, i + 4)) for i in range(7)]
    assert batch.given is None
    assert split.counts is None


def test_the_hash_is_that_of_what_is_scored():
    x = text()
    hashes = {WindowSplit(x, *how).sha256 for how in ((8, 4), (8, 2), (6, 4), (8, None))}
    assert len(hashes) == 4
    assert WindowSplit(x, 8, 4).sha256 == WindowSplit(x.clone(), 8, 4).to(torch.device("cpu")).sha256
    assert WindowSplit(text(seed=1), 8, 4).sha256 not in hashes


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


# --- models ----------------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize(
    ("kind", "support", "options", "message"),
    [
        (Transformer, "categorical:3", {"width": 10, "heads": 4}, "model.width=10"),
        (Transformer, "categorical:3", {"layers": 0}, "model.layers=0"),
        (Transformer, "categorical:3", {"activation": "relu"}, "model.activation=relu: one of gelu, relu2, swiglu"),
        (Transformer, "categorical:3", {"dropout": 1.0}, "model.dropout=1.0"),
        (NGram, "categorical:65", {"order": 12}, "model.order=12: 1 to 10 with 65 symbols"),
        (NGram, "categorical:65", {"order": 0}, "model.order=0"),
        (NGram, "levels:3", {"conditional": True}, "model.conditional"),
    ],
)
def test_refusals_of_models(kind, support, options, message):
    with pytest.raises((UsageError, ValueError), match=f"^{message}"):
        built("model", kind, Spec((4,), Support.parse(support), 2), **options)


# --- the hidden Markov model -----------------------------------------------------------------------------------------


def test_forward_algorithm_equals_enumeration():
    data = HMM(states=3, symbols=3, train=100, val=70, test=70)
    for x in text(20, 3).long().view(4, 5):
        total = 0.0
        for path in itertools.product(range(3), repeat=5):
            p = data.stationary[path[0]] * data.emission[path[0], x[0]]
            for t in range(1, 5):
                p = p * data.transition[path[t - 1], path[t]] * data.emission[path[t], x[t]]
            total += float(p)
        assert data.log_prob(x[None]) == pytest.approx(math.log(total), abs=1e-12)


def test_words_of_the_forward_algorithm_add_up_and_give_the_bounds():
    data = HMM(states=3, symbols=3, train=100, val=70, test=70)
    blocks = [0.0]
    for n in (3, 4):
        log_p = data.log_prob(torch.cartesian_prod(*[torch.arange(3)] * n))
        assert log_p.exp().sum() == pytest.approx(1, abs=1e-12)
        blocks.append(-float((log_p.exp() * log_p).sum()))
    low, high = data.entropy_bounds(4)
    assert high == pytest.approx(blocks[2] - blocks[1], abs=1e-12)
    assert low < data.entropy < high


def test_the_entropy_rate():
    data = HMM()
    assert data.entropy_error < 2e-5
    bounds = [data.entropy_bounds(n) for n in (1, 2, 4, 6)]
    assert all(a[0] <= b[0] <= data.entropy <= b[1] <= a[1] for a, b in itertools.pairwise(bounds))
    split = data.split("test")
    x = split.symbols[:40_000].view(40, 1000)
    nats = -data.log_prob(x) / 1000
    assert abs(nats.mean() - data.entropy) < 4 * nats.std() / math.sqrt(40) + 1e-3
    assert data.encode("abca").tolist() == [0, 1, 2, 0]
    assert data.to_text(torch.tensor([[0, 1, 2]])) == ["abc"]


# --- files -----------------------------------------------------------------------------------------------------------


def test_text_files(tmp_path):
    file = tmp_path / "play.txt"
    file.write_text("Grüße " * 100, newline="")
    data = TextFile(str(file), window=8)
    assert (data.per, data.spec.support.levels, data.stride) == ("char", 6, 4)
    assert [len(data.split(s).symbols) for s in ("train", "val", "test")] == [540, 30, 30]
    assert data.to_text(data.encode("rüß")[None]) == ["rüß"]
    assert "".join(data.to_text(data.split(s).symbols[None])[0] for s in ("train", "val", "test")) == file.read_text()

    other = tmp_path / "other.txt"
    other.write_text("x" * 50)
    apart = TextFile(str(file), test_path=str(other), window=8)
    assert (len(apart.split("train").symbols), apart.split("val"), len(apart.split("test").symbols)) == (600, None, 50)
    assert apart.spec.support.levels == 7

    by_byte = TextFile(str(file), level="byte", window=8)
    assert by_byte.spec.support.levels == 256
    assert by_byte.to_text(by_byte.encode("Grüße")[None]) == ["Grüße"]


def test_refusals_of_data(tmp_path):
    file = tmp_path / "short.txt"
    file.write_text("to be or not to be" * 10)
    with pytest.raises(ValueError, match=r"data.window=128: the val split has only 9 chars"):
        TextFile(str(file))
    with pytest.raises(ValueError, match=r"data.stride=9"):
        TextFile(str(file), window=8, stride=9)
    with pytest.raises(ValueError, match=r"the character '1' is not among the 7 of this data"):
        TextFile(str(file), window=8).encode("to be 1")
    with pytest.raises(UsageError, match="no such file"):
        TextFile(str(tmp_path / "nowhere.txt"))
    file.write_bytes(b"abc\xff\xfe" * 100)
    with pytest.raises(UsageError, match=r"no UTF-8 at byte 3.*data.level=byte"):
        TextFile(str(file))
    with pytest.raises(UsageError, match=r"text8.zip is missing: fetch http"):
        Text8(root=str(tmp_path)).split("test")
    (tmp_path / "text8").mkdir()
    (tmp_path / "text8" / "text8").write_text("a b c")
    with pytest.raises(UsageError, match="has 5 bytes, not 100000000"):
        Text8(root=str(tmp_path)).split("test")


def test_alphabets():
    alphabet = Alphabet("abé𝕏")
    assert alphabet.encode("𝕏éa").tolist() == [3, 2, 0]
    assert alphabet.decode(torch.tensor([3, 2, 0], dtype=torch.uint8)) == "𝕏éa"
    for bad in "c", "ÿ", "\U0010ffff":
        with pytest.raises(ValueError, match="not among the 4"):
            alphabet.encode("a" + bad)


def shakespeare():
    if not (data_root(None) / "tinyshakespeare" / "input.txt").exists():
        pytest.skip("tinyshakespeare/input.txt is not under GENCLI_DATA")


def test_tinyshakespeare_is_that_of_nanogpt():
    shakespeare()
    data = TinyShakespeare(validation=0)
    assert (len(data.split("train").symbols), data.split("val"), len(data.split("test").symbols)) == (
        1_003_854,
        None,
        111_540,
    )
    assert data.train_on == "train+val"
    assert data.to_text(data.split("train").symbols[None, :14]) == ["First Citizen:"]
    assert int(data.split("test").counts.sum()) == 111_540
    assert len(torch.cat([data.split(s).symbols for s in ("train", "test")]).unique()) == 65


@pytest.mark.slow
@pytest.mark.parametrize(("order", "nats"), [(1, 3.347), (2, 2.486), (3, 2.049), (4, 1.774), (5, 1.669), (6, 1.698)])
def test_the_ngram_ladder(order, nats):
    shakespeare()
    data = TinyShakespeare(validation=0, window=256)
    model = NGram(data.spec, order=order)
    rows = [split.gather(torch.arange(len(split))) for split in (data.split("train"), data.split("test"))]
    train, test = (Batch(row.x.long(), given=row.given) for row in rows)
    model.initialize_from(train)
    assert -model.log_prob(test.x, None, test.given).sum() / 111_540 == pytest.approx(nats, abs=1e-3)


# --- records ---------------------------------------------------------------------------------------------------------


def record(nll, counts):
    return nll_record(
        Scores(nll, {"model": nll}, torch.zeros_like(nll)),
        shared=Shared("exact"),
        spec=Spec((8,), Support("categorical", 4)),
        entropy=1.0,
        counts=counts,
        per="char",
        **SOURCE,
    )


def test_a_record_is_per_symbol():
    nll, counts = torch.tensor([10.0, 4.0, 7.0]).double(), torch.tensor([8, 4, 4])
    r = record(nll, counts)
    assert r.value == pytest.approx(21 / 16)
    assert r.unit == "nats/char"
    assert r.bits_per_dim == pytest.approx(21 / 16 / math.log(2))
    assert r.perplexity == pytest.approx(math.exp(21 / 16))
    assert (r.n_examples, r.n_symbols) == (3, 16)
    assert sum(line["nats"] for line in r.ledger) == pytest.approx(r.value)
    assert r.diagnostics["nll_minus_entropy"] == pytest.approx(5 / 16)
    residual = nll - 21 / 16 * counts
    assert r.se_examples == pytest.approx(float((1.5 * residual.square().sum()).sqrt() / 16))
    assert r.headline.startswith("test NLL = 1.312 ± ")
    assert "nats/char (1.894 bits/char, perplexity 3.72, exact)" in r.headline


def test_the_standard_error_of_a_ratio_is_calibrated():
    """Rows of different sizes: the error predicted from one sample is the spread over many."""
    generator = torch.Generator().manual_seed(0)
    values, errors = [], []
    for _ in range(300):
        counts = torch.randint(1, 9, (100,), generator=generator)
        nll = counts * (1 + 0.3 * torch.randn(100, generator=generator, dtype=torch.float64))
        r = record(nll, counts)
        values.append(r.value)
        errors.append(r.se_examples)
    assert np.std(values) / np.mean(errors) == pytest.approx(1, abs=4 / math.sqrt(2 * 300))


# --- the whole chain -------------------------------------------------------------------------------------------------

QUICK = ["logger=none", "device=cpu", "n=2", "data.window=16", "trainer.max_steps=4", "trainer.eval_every=2"]
BODY = ["model.layers=1", "model.heads=2", "model.width=8"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "play.txt").write_text(PLAY)
    data = ["data=text_file", f"data.path={folder}/play.txt", *QUICK]
    gencli.train(["model=transformer", *BODY, *data, f"run_dir={folder}/transformer"])
    gencli.train(["model=ngram", "model.order=3", *data, f"run_dir={folder}/ngram"])
    return folder


def result(folder, name="test-exact"):
    return json.loads((folder / "eval" / f"{name}.json").read_text())


def test_a_run_measures_all_of_the_text_per_character(runs, capsys):
    r = result(runs / "transformer")
    assert (r["unit"], r["bound"]) == ("nats/char", "exact")
    assert r["n_symbols"] == len(PLAY) - len(PLAY) * 95 // 100
    assert r["protocol"]["window"] == "16, stride 8"
    assert r["protocol"]["symbols"] == "char"
    assert result(runs / "ngram")["value"] < r["value"]
    metrics = [json.loads(line) for line in (runs / "transformer" / "metrics.jsonl").read_text().splitlines()]
    loss = [m["loss"] for m in metrics if m["split"] == "train"]
    score = [m["nll"] for m in metrics if m["split"] == "val"]
    assert abs(loss[0] - score[-1]) < 1  # both per character

    run = gencli.load(runs / "transformer")
    again = run.nll("test", batch_size=7)
    assert again["value"] == pytest.approx(r["value"], abs=1e-6)
    train = run.nll("train")
    assert train["n_symbols"] == len(PLAY) * 90 // 100
    split = run.parts.dataset.split("test")
    rows = split.gather(torch.arange(len(split)))
    total = -run.log_prob(rows.x, given=rows.given).sum()
    assert total / split.counts.sum() == pytest.approx(r["value"], abs=1e-6)


def test_samples_are_text(runs, capsys):
    folder = runs / "ngram"
    names = sorted(p.name for p in (folder / "samples").iterdir())
    assert names == ["ancestral.npz", "ancestral.txt"]
    command = ["sample", f"run={folder}", "n=2", "sampler.prompt='to be'", "sampler.length=40", "name=long"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "  | to be" in said
    assert "long.txt" in said
    written = (folder / "samples" / "long.txt").read_text()
    assert written.startswith("=== 0 ===\nto be")
    assert np.load(folder / "samples" / "long.npz")["samples"].shape == (2, 40)


def test_bad_prompts_take_one_line(runs, capsys):
    run = f"run={runs / 'transformer'}"
    for words, message in (
        (["sampler.prompt=TO"], "the character 'T' is not among the"),
        (["sampler.prompt='to be, or not to be'"], "sampler.length=16: the prompt alone has 19 symbols"),
        (["sampler.given=top_half"], "needs images"),
    ):
        assert cli.main(["sample", run, *words]) == 2
        assert message in capsys.readouterr().err


def test_models_that_cannot_condition_are_refused(capsys, tmp_path):
    assert cli.main(["train", "model=realnvp", "data=hmm"]) == 2
    assert (
        "is not Autoregressive in the order of the data: data=hmm is scored symbol by symbol" in capsys.readouterr().err
    )
    assert not (tmp_path / "outputs").exists()


def test_comparison_is_per_symbol_and_paired(runs):
    comparison = compare([runs / "transformer", runs / "ngram"])
    assert len(comparison.groups) == 1
    best, other = comparison.groups[0]
    assert other.difference == pytest.approx(other.value - best.value)
    a, b = (np.load(runs / name / "eval" / "test-exact.npz") for name in ("transformer", "ngram"))
    d, c = a["nll"] - b["nll"], a["counts"]
    slack = d - d.sum() / c.sum() * c
    assert other.difference_se == pytest.approx(math.sqrt(len(c) / (len(c) - 1) * (slack**2).sum()) / c.sum())


def test_another_window_is_another_protocol(runs):
    data = ["data=text_file", f"data.path={runs}/play.txt", *QUICK, "data.stride=4"]
    gencli.train(["model=ngram", "model.order=3", *data, f"run_dir={runs}/stride4"])
    comparison = compare([runs / "ngram", runs / "stride4"])
    assert len(comparison.groups) == 2
    assert "window is 16, stride 4, not 16, stride 8" in comparison.reasons[0]


def test_surprise_in_colour(runs, capsys):
    folder = runs / "ngram"
    assert cli.main(["sample", f"run={folder}", "picture=surprise_text", "name=seen"]) == 0
    said = capsys.readouterr().out
    assert "nats" in said
    html = (folder / "samples" / "seen.html").read_text()
    assert html.count("<span") >= len(PLAY) - len(PLAY) * 95 // 100


def test_rotation_takes_bf16():
    """Autocast on a GPU hands it over as it is; that of a CPU does not, so this calls the function itself."""
    x = torch.randn(2, 3, 1, 4)
    turn = torch.polar(torch.ones(3, 1, 2), torch.rand(3, 1, 2))
    assert rotate(x.bfloat16(), turn).dtype == torch.bfloat16
    assert torch.allclose(rotate(x.bfloat16(), turn).float(), rotate(x, turn), atol=0.05)
