"""Models that move mass along time."""
