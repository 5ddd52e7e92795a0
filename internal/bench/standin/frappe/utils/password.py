"""__Auth: password hashes (pbkdf2) and encrypted secrets (Fernet)."""

import base64
import hashlib
import hmac
import os

import frappe

ROUNDS = 29000


def update_password(user, pwd, doctype="User", fieldname="password", logout_all_sessions=False):
    """Sets the password; no policy is applied here."""
    _store(doctype, user, fieldname, hash_password(pwd), 0)
    if logout_all_sessions:
        frappe.db.sql("delete from tabSessions where user = %s", user)
        frappe.cache.delete_value("session")


def check_password(user, pwd, doctype="User", fieldname="password", **_):
    """The user's name as stored, or AuthenticationError."""
    row = frappe.db.sql(
        "select name, password from __Auth where doctype=%s and name=%s and fieldname=%s and encrypted=0",
        (doctype, user, fieldname),
    )
    if not row or not verify_password(pwd, row[0][1]):
        raise frappe.AuthenticationError("Incorrect User or Password")
    return row[0][0]


def set_encrypted_password(doctype, name, pwd, fieldname="password"):
    _store(doctype, name, fieldname, encrypt(pwd), 1)


def get_decrypted_password(doctype, name, fieldname="password", raise_exception=True):
    row = frappe.db.sql(
        "select password from __Auth where doctype=%s and name=%s and fieldname=%s and encrypted=1",
        (doctype, name, fieldname),
    )
    if row and row[0][0]:
        return decrypt(row[0][0], key=f"{doctype}.{name}.{fieldname}")
    if raise_exception:
        frappe.throw(f"Password not found for {doctype} {name} {fieldname}", frappe.AuthenticationError)
    return None


def remove_encrypted_password(doctype, name, fieldname="password"):
    frappe.db.delete("__Auth", {"doctype": doctype, "name": name, "fieldname": fieldname})


def _store(doctype, name, fieldname, password, encrypted):
    frappe.db.sql(
        "insert into __Auth (doctype, name, fieldname, password, encrypted) values (%s, %s, %s, %s, %s)"
        " on duplicate key update password = values(password), encrypted = values(encrypted)",
        (doctype, name, fieldname, password, encrypted),
    )


# ---- hashes, in passlib's notation


def hash_password(pwd):
    salt = os.urandom(16)
    return f"$pbkdf2-sha256${ROUNDS}${_ab64(salt)}${_ab64(_derive(pwd, salt, ROUNDS))}"


def verify_password(pwd, stored):
    try:
        _, scheme, rounds, salt, digest = stored.split("$")
    except ValueError:
        return False
    if scheme != "pbkdf2-sha256":
        return False
    return hmac.compare_digest(_ab64(_derive(pwd, _unab64(salt), int(rounds))), digest)


def _derive(pwd, salt, rounds):
    return hashlib.pbkdf2_hmac("sha256", pwd.encode(), salt, rounds)


def _ab64(data):
    return base64.b64encode(data, b"./").decode().rstrip("=")


def _unab64(text):
    return base64.b64decode(text + "=" * (-len(text) % 4), b"./")


# ---- secrets


def encrypt(txt, encryption_key=None):
    from cryptography.fernet import Fernet

    try:
        cipher = Fernet((encryption_key or get_encryption_key()).encode())
    except ValueError:
        frappe.throw("Encryption key is in invalid format!")
    return cipher.encrypt(txt.encode()).decode()


def decrypt(txt, encryption_key=None, key=None):
    from cryptography.fernet import Fernet, InvalidToken

    try:
        return Fernet((encryption_key or get_encryption_key()).encode()).decrypt(txt.encode()).decode()
    except InvalidToken:
        frappe.throw(f"Failed to decrypt key {key}<br><br>Encryption key is invalid! Please check site_config.json")


def get_encryption_key():
    """The site's key; the first use writes it to site_config.json."""
    if "encryption_key" not in frappe.local.conf:
        from cryptography.fernet import Fernet

        from frappe.installer import update_site_config

        key = Fernet.generate_key().decode()
        update_site_config("encryption_key", key)
        frappe.local.conf.encryption_key = key
    return frappe.local.conf.encryption_key
