"""The tasks of "Benchmarking simulation-based inference" (Lueckmann, Boelts, Greenberg, Goncalves and Macke, 2021).

Priors and simulators are theirs; observations are drawn here, from seeds, because theirs lie in files.
"""
