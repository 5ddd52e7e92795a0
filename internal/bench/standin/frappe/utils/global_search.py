"""The index of the search over all documents: a queue in Redis, which a job of the scheduler
reads. The stand-in runs no scheduler."""

import json

import redis

import frappe

FIELDS = {"Contact": ("first_name", "email_id", "user")}


def update_global_search(doc):
    content = [str(doc.get(field)) for field in FIELDS.get(doc.doctype, ()) if doc.get(field)]
    if content:
        sync_value_in_queue({"doctype": doc.doctype, "name": doc.name, "content": " ||| ".join(content), "published": 0, "title": doc.name, "route": None})


def sync_value_in_queue(value):
    try:
        frappe.cache.lpush("global_search_queue", json.dumps(value))
    except redis.exceptions.ConnectionError:
        pass
