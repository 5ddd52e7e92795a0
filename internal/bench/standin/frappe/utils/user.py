"""System managers, as the command line and the setup wizard make them."""

import frappe

AUTOMATIC_ROLES = ("Guest", "All", "Desk User", "Administrator")


def add_system_manager(email, first_name=None, last_name=None, send_welcome_email=False, password=None):
    """Makes a user with nearly every role; an existing one is an error."""
    user = frappe.new_doc("User")
    user.update(
        {
            "name": email,
            "email": email,
            "enabled": 1,
            "first_name": first_name or email,
            "last_name": last_name,
            "user_type": "System User",
            "send_welcome_email": 1 if send_welcome_email else 0,
        }
    )
    user.insert()
    user.add_roles(*frappe.get_all("Role", {"name": ("not in", AUTOMATIC_ROLES)}, pluck="name"))
    if password:
        from frappe.utils.password import update_password

        update_password(user=user.name, pwd=password)
    return user
