"""Stands for ERPNext: a version and a list of customizations."""

__version__ = "15.71.1"
