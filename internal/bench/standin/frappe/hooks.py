"""The framework itself, as an app."""
