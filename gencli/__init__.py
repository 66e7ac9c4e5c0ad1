"""gencli: train deep generative models and compare them by held-out likelihood."""
