"""Students of a trained model."""
