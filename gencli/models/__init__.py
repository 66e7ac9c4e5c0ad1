"""The group model: generative models, a folder a family."""
