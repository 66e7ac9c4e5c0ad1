"""Factorize: p(x) = prod_t p(x_t | x_<t); exact likelihood, samples one coordinate after another."""
