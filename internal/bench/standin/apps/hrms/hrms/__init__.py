"""Stands for HRMS: an app that needs another one."""

__version__ = "15.47.8"
