"""The group path: from data to noise."""
