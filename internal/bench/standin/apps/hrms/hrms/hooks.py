"""HRMS is installed on top of ERPNext only."""

required_apps = ["frappe/erpnext"]
