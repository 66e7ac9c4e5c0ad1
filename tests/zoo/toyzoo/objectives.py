from gencli.interfaces import Objective, Unnormalized


class CD(Objective):
    requires = (Unnormalized,)

    def turns(self, model):
        return []

    def score(self, model, x, y, noise):
        return model.energy(x)
