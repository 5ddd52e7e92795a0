"""Documents, their descriptions and queries."""
