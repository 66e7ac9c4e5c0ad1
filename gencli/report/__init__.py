"""What runs say, side by side: read, compared, rendered."""
