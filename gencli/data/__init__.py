"""Data sets with specifications, splits and preprocessing."""
