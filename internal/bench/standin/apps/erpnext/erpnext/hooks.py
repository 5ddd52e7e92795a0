"""Frappe prints one line for each DocType an app customizes."""

customizes = ["Address", "Contact"]
setup_wizard_stages = "erpnext.setup.setup_wizard.setup_wizard.get_setup_stages"
