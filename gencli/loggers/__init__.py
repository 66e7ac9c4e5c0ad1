"""Options of the group ``logger``."""
