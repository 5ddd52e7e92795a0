"""The job queue in Redis, in RQ's keys. The stand-in runs no worker."""

import json
import time
import zlib
from datetime import datetime, timezone
from uuid import uuid4

import redis

import frappe
from frappe import release
from frappe.utils import get_bench_id

ATTEMPTS = 5


def get_redis_conn(username=None, password=None):
    """The queue's server; without it an enqueue fails for good, after a while."""
    conn = redis.Redis.from_url(frappe.get_conf().redis_queue)
    for attempt in range(ATTEMPTS):
        try:
            conn.ping()
            return conn
        except redis.exceptions.ConnectionError as e:
            if attempt == ATTEMPTS - 1:
                frappe.logger().error(f"Please make sure that Redis Queue runs @ {frappe.get_conf().redis_queue}: {e}")
                raise
            time.sleep(0.2 * (attempt + 1))


def generate_qname(qtype):
    return f"{get_bench_id()}:{qtype}"


def create_job_id(job_id=None):
    return f"{frappe.local.site}{release.JOB_SEPARATOR}{job_id or uuid4()}"


def enqueue(method, queue="default", timeout=None, now=False, enqueue_after_commit=False, job_id=None, **kwargs):
    """Puts a job into the queue, at once or after the next commit."""
    if now:
        return None  # what the jobs do is of no interest here
    conn = get_redis_conn()
    site, user, job_id = frappe.local.site, frappe.session.user, create_job_id(job_id)

    def push():
        _push(conn, queue, job_id, {"site": site, "user": user, "method": method, "kwargs": kwargs}, timeout or 300)

    if enqueue_after_commit:
        frappe.db.after_commit.add(push)
        return None
    return push()


def _push(conn, queue, job_id, call, timeout):
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    name = generate_qname(queue)
    with conn.pipeline() as pipe:
        pipe.sadd("rq:queues", f"rq:queue:{name}")
        pipe.hset(
            f"rq:job:{job_id}",
            mapping={
                "created_at": stamp,
                "enqueued_at": stamp,
                "data": zlib.compress(json.dumps(call, default=str).encode()),
                "description": f"frappe.utils.background_jobs.execute_job(method='{call['method']}')",
                "origin": name,
                "status": "queued",
                "timeout": timeout,
            },
        )
        pipe.rpush(f"rq:queue:{name}", job_id)
        pipe.execute()
