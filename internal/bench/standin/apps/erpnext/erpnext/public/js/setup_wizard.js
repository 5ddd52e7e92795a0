// Stands for the pages of ERPNext's wizard: the year that it suggests for a country. Any other
// country has the calendar year.
frappe.provide("erpnext.setup");

erpnext.setup.fiscal_years = {
	India: ["04-01", "03-31"],
	"South Africa": ["03-01", "02-28"],
	"United Kingdom": ["04-01", "03-31"],
};
