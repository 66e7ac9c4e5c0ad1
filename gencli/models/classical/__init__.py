"""Closed forms and EM: Gaussian, mixture, PPCA, n-grams."""
