"""Models that factorise p(x) = prod_t p(x_t | x_<t)."""
