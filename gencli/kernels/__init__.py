"""Transitions of Markov chains on an energy: the group ``kernel``."""
