"""Text as data: windows, alphabets, files, the hidden Markov model, and records per symbol."""

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from estimates import SOURCE
from sequences import text

from gencli.core.errors import UsageError
from gencli.core.spec import Batch, Spec, Support
from gencli.data.root import data_root
from gencli.data.sets.hmm import HMM
from gencli.data.sets.text import Text8, TextFile, TinyShakespeare
from gencli.data.split import WindowSplit
from gencli.data.windows import Alphabet
from gencli.estimators.base import Shared
from gencli.models.classical.ngram import NGram
from gencli.run.record import nll_record
from gencli.run.scoring import Scores


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_entropy_rate_is_the_same_bits_in_every_process():
    """This one has one thread, the other one two."""
    ask = "from gencli.data.sets.hmm import HMM; d = HMM(); print(d.entropy.hex(), d.entropy_error.hex())"
    env = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True, check=True).stdout
    data = HMM()
    assert torch.get_num_threads() == 1
    assert other.split() == [data.entropy.hex(), data.entropy_error.hex()]
    assert other.startswith("0x1.")


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
    with pytest.raises(ValueError, match=r"data.window=128: the val split has only 9 chars: at most data.window=9"):
        _ = TextFile(str(file)).spec
    with pytest.raises(ValueError, match=r"data.stride=9"):
        TextFile(str(file), window=8, stride=9)
    with pytest.raises(ValueError, match=r"the character '1' is not among the 7 of this data"):
        TextFile(str(file), window=8).encode("to be 1")
    with pytest.raises(UsageError, match="no such file"):
        _ = TextFile(str(tmp_path / "nowhere.txt")).spec
    file.write_bytes(b"abc\xff\xfe" * 100)
    with pytest.raises(UsageError, match=r"no UTF-8 at byte 3.*data.level=byte"):
        _ = TextFile(str(file)).spec
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
    in_two = torch.stack([residual[:2].sum(), residual[2]])  # blocks of consecutive rows
    assert r.se_examples == pytest.approx(float((2 * in_two.square().sum()).sqrt() / 16))
    assert r.se_blocks == 2
    assert r.headline.startswith("test NLL = 1.312 ± ")
    assert "nats/char (1.894 bits/char, perplexity 3.72, exact; error from 2 blocks only)" in r.headline


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
