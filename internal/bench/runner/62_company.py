# The company of a new site. ERPNext's set-up wizard makes it, and suggests the name and the
# abbreviation that are in the site's defaults (setup_wizard.js: sysdefaults.company_name and
# company_abbr).


def company(op):
    site, name = site_of(op).ours(op), re.sub("[<>]", "", op.args["name"]).strip()[:140].strip()  # Frappe would store these as HTML
    with frappe_site(site) as frappe:
        if not frappe.db.sql("SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'tabCompany'"):
            return {"skipped": True}
        if not name or frappe.db.sql("SELECT 1 FROM tabCompany LIMIT 1"):
            return {"changed": False}
        wanted = {"company_name": name, "company_abbr": abbreviation(name)}
        missing = set_defaults(frappe, {key: value for key, value in wanted.items() if value})
        have = site_defaults(frappe)
        wrong = [key for key in missing if have.get(key) != [wanted[key]]]
        if wrong:
            raise Refusal("internal", "The company's name was not stored.", f"{wrong}")
    return {"changed": bool(missing)}


def abbreviation(name):
    """Two to five letters and digits for a company's name: the first of each word, or of
    the name if it is one word. Shorter, or empty, if the name has no more of them."""
    words = [[c for c in word if c.isalpha() or c.isdecimal()] for word in re.split(r"[\s/&+.,-]+", name)]
    first = "".join(word[0] for word in words if word).upper()
    return (first if len(first) > 1 else "".join(c for word in words for c in word).upper())[:5]
