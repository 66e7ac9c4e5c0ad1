"""Pictures of what hidden units look for."""

import io

import pytest
import torch
from PIL import Image

from gencli.core.errors import UsageError
from gencli.data.preprocess import Preprocess
from gencli.data.sets.digits import Digits
from gencli.data.sets.toys import Toy
from gencli.models.energy.rbm import RBM
from gencli.pictures import canvas
from gencli.pictures.filters import Filters
from gencli.run.assembly import Parts


def parts(dataset) -> Parts:
    preprocess = Preprocess(dataset.spec, RBM.supports, RBM.shapes)
    model = RBM(preprocess.model_spec, hidden=6)
    return Parts(torch.device("cpu"), dataset, preprocess, model, None, None, None)


def test_filters_are_shown_from_the_longest_to_the_shortest(monkeypatch):
    seen, own = [], canvas.tiles
    monkeypatch.setattr(canvas, "tiles", lambda images, *rest: seen.append(images) or own(images, *rest))
    some = parts(Digits())
    with torch.no_grad():
        some.model.W.zero_()
        for unit, (place, weight) in enumerate([(3, 0.5), (60, -2.0), (17, 1.0), (0, 0.1), (1, 0.2), (2, 0.3)]):
            some.model.W[unit, place] = weight
    drawn = Filters(units=4).make(some, 1, seed=0)
    assert Image.open(io.BytesIO(drawn.contents()[".png"])).width > 100
    (images,) = seen
    assert images.shape == (4, 1, 8, 8)
    flat = images.flatten(1)
    assert [int(i) for i in flat.abs().argmax(1)] == [60, 17, 3, 2]
    assert flat.sum(1).tolist() == pytest.approx([-2.0, 1.0, 0.5, 0.3])


def test_vectors_have_no_filters_to_show():
    with pytest.raises(UsageError, match=r"^picture=filters shows images"):
        Filters().make(parts(Toy("moons")), 1, seed=0)
