"""Transform: push a simple base through an invertible map; exact likelihood."""
