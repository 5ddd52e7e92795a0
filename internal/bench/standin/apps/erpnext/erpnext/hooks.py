"""Frappe prints one line for each DocType an app customizes."""

customizes = ["Address", "Contact"]
