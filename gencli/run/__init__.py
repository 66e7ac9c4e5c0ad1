"""One run: its parts, its folder, its numbers."""
