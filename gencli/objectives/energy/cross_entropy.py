"""Cross-entropy: what a classifier alone is trained by, beside which a joint model is measured."""

from __future__ import annotations

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Batch
from gencli.models.structure import Classifier
from gencli.models.trained import Learned
from gencli.objectives.base import Loss, Objective, Turn
from gencli.objectives.energy.base import class_nats


class CrossEntropy(Objective[Classifier]):
    """L = E[-log p(y | x)] in nats, which says nothing of the density of x.

    A joint model that is trained by it keeps an NLL of x, which every estimator measures as it is: a poor one.

    Args:
        spec: of model space.

    Raises:
        ValueError: data without labels.
    """

    score_name = "cross_entropy"

    def bind(self, model: Classifier) -> Learned:
        if not self.spec.classes:
            raise ValueError("objective=cross_entropy needs data with labels")
        return Learned()

    def turns(self, model: Classifier) -> list[Turn]:
        def loss(batch: Batch, noise: Noise) -> Loss:
            nats, right = class_nats(model, batch)
            return Loss(nats.mean(), {"accuracy": right.mean()})

        return [Turn("model", [p for p in model.parameters() if p.requires_grad], loss, static=True)]

    def score(self, model: Classifier, batch: Batch, noise: Noise) -> Tensor:
        return class_nats(model, batch)[0]
