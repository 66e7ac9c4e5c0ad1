from gencli.interfaces import Objective, Unnormalized


class CD(Objective):
    requires = (Unnormalized,)

    def turns(self, model):
        return []

    def score(self, model, batch, noise):
        return model.energy(batch.x)
