"""Pieces of music as frames of 88 keys: the published files, and the two averages that are called nats a frame."""

import json

import numpy as np
import pytest
import torch
from data_sets import needs_files
from scipy.io import savemat

from gencli.config.stored import scores
from gencli.core.errors import UsageError
from gencli.core.spec import Spec, Support
from gencli.data.sets.polyphony import Polyphony
from gencli.data.split import at_most
from gencli.estimators.base import Shared
from gencli.models.classical.independent import Independent
from gencli.run.record import nll_record
from gencli.run.scoring import Scores

LENGTHS = {"traindata": (5, 9), "validdata": (4,), "testdata": (2, 6, 4)}


def cells(pieces):
    found = np.empty((1, len(pieces)), object)
    for k, piece in enumerate(pieces):
        found[0, k] = piece
    return found


def save(folder, name="JSB_Chorales", **changed):
    rng = np.random.default_rng(0)
    sets = {key: [rng.integers(2, size=(n, 88)).astype(np.uint8) for n in ns] for key, ns in LENGTHS.items()}
    (folder / "polyphony").mkdir(exist_ok=True)
    savemat(folder / "polyphony" / f"{name}.mat", {key: cells(p) for key, p in (sets | changed).items()})
    return sets


def test_frames_are_those_of_the_file_in_order(tmp_path):
    sets = save(tmp_path)
    data = {a: Polyphony("jsb", a, root=str(tmp_path)) for a in ("frame", "sequence")}
    frames, pieces = (data[a].split("test") for a in data)
    assert torch.equal(frames.x, torch.from_numpy(np.concatenate(sets["testdata"])))
    assert frames.groups.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert frames.weights is None
    assert pieces.weights.tolist() == pytest.approx([1 / 2] * 2 + [1 / 6] * 6 + [1 / 4] * 4)
    assert [data["frame"].protocol(), data["sequence"].protocol()] == [{"average": "frame"}, {"average": "sequence"}]
    few = at_most(pieces, 5)
    assert torch.equal(few.groups, pieces.groups[few.index])
    assert torch.equal(few.weights, pieces.weights[few.index])


def test_the_averages_and_their_errors(tmp_path):
    """Of frames: the ratio over pieces; of sequences: the mean over pieces, with its usual standard error."""
    save(tmp_path)
    nll = torch.arange(12).double().square()
    means = np.array([nll[:2].mean(), nll[2:8].mean(), nll[8:].mean()])
    sums = np.array([nll[:2].sum(), nll[2:8].sum(), nll[8:].sum()]) - float(nll.mean()) * np.array([2, 6, 4])
    expected = {
        "frame": (float(nll.mean()), np.sqrt(3 / 2 * (sums**2).sum()) / 12),
        "sequence": (means.mean(), means.std(ddof=1) / np.sqrt(3)),
    }
    for average, (value, error) in expected.items():
        split = Polyphony("jsb", average, root=str(tmp_path)).split("test")
        rest = dict(estimator="exact", settings={}, protocol={}, split="test", split_sha256="", weights="raw")
        rest |= dict(checkpoint=None, checkpoint_sha256=None, seed=0, seconds=0.0)
        record = nll_record(
            Scores(nll, {"model": nll}, diagnostics={"looser": nll + 1}),
            shared=Shared("lower", variance=0.25),
            spec=Spec((88,), Support("binary", 2)),
            groups=split.groups,
            row_weights=split.weights,
            **rest,
        )
        assert (record.value, record.se_examples) == (pytest.approx(value), pytest.approx(error))
        assert (record.ledger[0]["nats"], record.se_shared) == (pytest.approx(value), pytest.approx(0.5))
        assert record.diagnostics["looser"] == pytest.approx(value + 1)  # of the same average
        assert (record.unit, record.se_blocks, record.n_examples) == ("nats", 3, 12)


@needs_files
@pytest.mark.parametrize(
    ("which", "pieces", "frame", "sequence"),
    [
        ("jsb", [229, 76, 77], 11.061, 11.005),
        ("nottingham", [694, 173, 170], 10.252, 10.116),
        ("piano", [87, 12, 25], 11.046, 11.385),
    ],
)
def test_independent_bits_have_the_published_nats(which, pieces, frame, sequence):
    """11.061, 10.252 and 11.046 nats are means over frames; over sequences the same model has others."""
    data = Polyphony(which, "sequence")
    splits = [data.split(name) for name in ("train", "val", "test")]
    assert [int(split.groups.max()) + 1 for split in splits] == pieces
    model = Independent(data.spec)
    model.initialize(splits[0].x.float())
    nll = -model.log_prob(splits[2].x.float()).detach().double()
    assert float(nll.mean()) == pytest.approx(frame, abs=1e-3)
    weights = splits[2].weights
    assert float((weights * nll).sum() / weights.sum()) == pytest.approx(sequence, abs=1e-3)


@pytest.mark.slow
def test_a_run_says_which_average_and_keeps_its_pieces(tmp_path):
    import gencli

    save(tmp_path)
    data = ["data=polyphony", f"data.root={tmp_path}", "data.average=sequence", "model=independent"]
    gencli.train([*data, "trainer.max_steps=2", "logger=none", "n=0", "device=cpu", f"run_dir={tmp_path}/run"])
    record = json.loads((tmp_path / "run" / "eval" / "test-exact.json").read_text())
    assert (record["protocol"]["average"], record["se_blocks"], record["bound"]) == ("sequence", 3, "exact")
    kept = scores(tmp_path / "run" / "eval" / "test-exact.npz")
    value = float((kept["weights"] * kept["nll"]).sum() / kept["weights"].sum())
    assert record["value"] == pytest.approx(value)
    assert kept["groups"].tolist() == [0] * 2 + [1] * 6 + [2] * 4


def test_files_that_are_not_there_or_wrong(tmp_path):
    data = Polyphony("piano", root=str(tmp_path))
    with pytest.raises(
        UsageError, match=r"Piano_midi.mat is missing: fetch Piano_midi.mat of https://github.com/locus"
    ):
        data.split("train")
    save(tmp_path, "Piano_midi", traindata=[np.full((3, 88), 2)], validdata=[np.zeros((3, 87))])
    for name, reason in (("train", "traindata: a frame that is no bits"), ("val", "validdata: a piece of shape")):
        with pytest.raises(UsageError, match=f"Piano_midi.mat is no file of this suite: {reason}"):
            Polyphony("piano", root=str(tmp_path)).split(name)
    (tmp_path / "polyphony" / "Piano_midi.mat").write_bytes(b"no matrix")
    with pytest.raises(UsageError, match="is no file of this suite: testdata: "):
        Polyphony("piano", root=str(tmp_path)).split("test")
