"""The order of batches: a function of (seed, k), shared by processes, kept by a resumed run."""

import itertools
import pickle
import time

import pytest
import torch

from gencli.data.loading import held_out_batches, train_batches
from gencli.data.split import StreamSplit, TensorSplit, shares


def load_row(name):
    return torch.tensor([int(name), 0], dtype=torch.uint8)


def read_row(name):
    return name.encode()


def tensors(n=23):
    x = torch.stack([torch.arange(n), torch.zeros(n)], 1).to(torch.uint8)
    return TensorSplit(x, torch.arange(n) % 3)


def stream(n=23):
    return StreamSplit([str(i) for i in range(n)], load_row, read_row, torch.arange(n) % 3)


def first(batches, k):
    return [batch.x[:, 0].tolist() for batch in itertools.islice(batches, k)]


@pytest.mark.parametrize("batch_size", [1, 5, 23, 60])
def test_every_example_once_an_epoch_and_no_short_batch(batch_size):
    rows = first(train_batches(tensors(), batch_size, seed=1), 3 * 23)
    assert {len(r) for r in rows} == {batch_size}
    endless = list(itertools.chain(*rows))
    for epoch in range(3):
        assert sorted(endless[23 * epoch : 23 * epoch + 23]) == list(range(23))
    assert endless[:23] != endless[23:46]


def test_labels_follow_their_examples():
    batch = next(train_batches(tensors(), 9, seed=1))
    assert torch.equal(batch.x[:, 0] % 3, batch.y.to(torch.uint8))


def test_resuming_at_k_is_the_stream_from_k():
    whole = first(train_batches(tensors(), 5, seed=2), 20)
    for start in (0, 3, 4, 13):
        assert first(train_batches(tensors(), 5, seed=2, start=start), 20 - start) == whole[start:]
    assert first(train_batches(tensors(), 5, seed=3), 20) != whole


def test_ranks_share_one_global_batch():
    whole = first(train_batches(tensors(), 6, seed=2), 9)
    ranks = [first(train_batches(tensors(), 6, seed=2, rank=r, world=4), 9) for r in range(4)]
    for k, rows in enumerate(whole):
        assert [ranks[i % 4][k][i // 4] for i in range(6)] == rows


@pytest.mark.parametrize("workers", [0, 2])
def test_streams_have_the_order_of_tensors(workers):
    expected = list(itertools.islice(train_batches(tensors(), 5, seed=2, start=3, rank=1, world=2), 8))
    found = list(itertools.islice(train_batches(stream(), 5, seed=2, start=3, rank=1, world=2, workers=workers), 8))
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)


@pytest.mark.parametrize("split", [tensors(), stream()])
@pytest.mark.parametrize("world", [1, 2, 3, 30])
def test_held_out_examples_once_over_all_ranks(split, world):
    seen = []
    for rank in range(world):
        for ids, batch in held_out_batches(split, 4, rank=rank, world=world, workers=0):
            assert batch.x[:, 0].tolist() == ids.tolist()
            assert (batch.y == ids % 3).all()
            assert 1 <= len(ids) <= 4
            seen += ids.tolist()
    assert sorted(seen) == list(range(23))


@pytest.mark.parametrize("workers", [0, 2])
def test_kept_examples_are_those_of_the_files_and_are_read_once(workers, tmp_path):
    def load_and_tell(name):
        with (tmp_path / "read").open("a") as told:
            told.write("x")
        return load_row(name)

    def batches(load, kept):
        split = StreamSplit([str(i) for i in range(23)], load, read_row, torch.arange(23) % 3, kept=kept)
        return split, itertools.islice(train_batches(split, 5, seed=2, start=2, workers=workers), 20)

    split, found = batches(load_and_tell, kept=True)
    for a, b in zip(batches(load_row, kept=False)[1], found, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
    assert split.complete
    assert torch.equal(split.in_memory().x, tensors().x)
    ahead = 2 * workers * 5  # what workers read before it was known that nothing is lacking
    read = (tmp_path / "read").stat().st_size
    assert read <= 10 + 23 + 4 + ahead  # it began within an epoch
    ids, x = zip(*[(index, batch.x) for index, batch in held_out_batches(split, 4, workers=workers)], strict=True)
    assert torch.equal(torch.cat(x), tensors().x[torch.cat(ids)])
    assert torch.equal(split.gather(torch.tensor([7, 3])).x, tensors().x[[7, 3]])
    assert (tmp_path / "read").stat().st_size == read
    assert not pickle.loads(pickle.dumps(StreamSplit(["1"], load_row, read_row, kept=True))).complete


def test_what_is_measured_first_is_kept_for_later_passes():
    split = StreamSplit([str(i) for i in range(23)], load_row, read_row, kept=True)
    passes = [torch.cat([b.x for _, b in held_out_batches(split, 4, workers=0)]) for _ in range(2)]
    assert split.complete
    assert torch.equal(*passes)


def test_more_processes_than_rows_are_refused():
    with pytest.raises(ValueError, match=r"trainer.batch_size=2: at least one row for each of the 3 processes"):
        next(train_batches(tensors(), 2, seed=0, world=3))


def test_hash_sees_examples_labels_and_order():
    split = tensors()
    hashes = {
        split.sha256,
        TensorSplit(split.x).sha256,
        TensorSplit(split.x.flip(0), split.y).sha256,
        TensorSplit(split.x, split.y.flip(0)).sha256,
        TensorSplit(split.x.view(1, 23, 2)).sha256,
        TensorSplit(split.x.long()).sha256,
    }
    assert len(hashes) == 6
    assert tensors().sha256 == split.sha256
    assert split.to(torch.device("cpu")).sha256 == split.sha256
    assert (
        len({stream().sha256, stream(22).sha256, StreamSplit(["1"], load_row, read_row, options="size 3").sha256}) == 3
    )


def test_shares_partition():
    rows = shares(101, (0.1, 0.2), seed=4)
    assert {k: len(v) for k, v in rows.items()} == {"train": 71, "val": 10, "test": 20}
    assert sorted(itertools.chain(*rows.values())) == list(range(101))


def test_an_epoch_of_60000_images_takes_a_tenth_of_a_second():
    split = TensorSplit(torch.zeros(60_000, 1, 28, 28, dtype=torch.uint8))
    batches = train_batches(split, 256, seed=0)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(235):
            next(batches)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1
