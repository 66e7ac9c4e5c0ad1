"""Shape: give every x an energy; p(x) = exp(-E(x)) / Z, with Z unknown."""
