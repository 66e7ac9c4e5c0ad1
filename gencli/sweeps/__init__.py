"""Many trainings at once: which jobs there are, what is done of them, the processes that do the rest."""
