"""Transitions of Markov chains on an energy."""
