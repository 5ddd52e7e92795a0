"""The cache: Redis keys of a site start with its database's name and a bar."""

import pickle

import redis

import frappe


class RedisWrapper(redis.Redis):
    """A Redis client that prefixes keys. A dead server reads as an empty cache."""

    def __call__(self):
        return self

    def connected(self):
        try:
            return bool(self.ping())
        except redis.exceptions.ConnectionError:
            return False

    def make_key(self, key, user=None, shared=False):
        if shared:
            return key
        if user:
            key = f"user:{frappe.session.user if user is True else user}:{key}"
        return f"{frappe.conf.db_name}|{key}".encode()

    def set_value(self, key, val, user=None, expires_in_sec=None, shared=False):
        try:
            self.set(self.make_key(key, user, shared), pickle.dumps(val), ex=expires_in_sec)
        except redis.exceptions.ConnectionError:
            pass

    def get_value(self, key, generator=None, user=None, expires=False, shared=False):
        try:
            val = self.get(self.make_key(key, user, shared))
        except redis.exceptions.ConnectionError:
            val = None
        if val is not None:
            return pickle.loads(val)
        if generator:
            val = generator()
            self.set_value(key, val, user, shared=shared)
        return val

    def lpush(self, key, value):
        return super().lpush(self.make_key(key), value)

    def lrange(self, key, start, stop):
        return super().lrange(self.make_key(key), start, stop)

    def get_keys(self, key):
        try:
            return self.keys(self.make_key(key + "*"))
        except redis.exceptions.ConnectionError:
            return []

    def delete_keys(self, key):
        self.delete_value(self.get_keys(key), make_keys=False)

    def delete_key(self, *args, **kwargs):
        self.delete_value(*args, **kwargs)

    def delete_value(self, keys, user=None, make_keys=True, shared=False):
        if not keys:
            return
        keys = keys if isinstance(keys, (list, tuple)) else (keys,)
        try:
            self.delete(*[self.make_key(k, user, shared) if make_keys else k for k in keys])
        except redis.exceptions.ConnectionError:
            pass

    def hset(self, name, key, value, shared=False, *_, **__):
        try:
            super().hset(self.make_key(name, shared=shared), key, pickle.dumps(value))
        except redis.exceptions.ConnectionError:
            pass

    def hget(self, name, key, generator=None, shared=False):
        try:
            value = super().hget(self.make_key(name, shared=shared), key)
        except redis.exceptions.ConnectionError:
            value = None
        return None if value is None else pickle.loads(value)

    def hdel(self, name, keys, shared=False, pipeline=None):
        keys = keys if isinstance(keys, (list, tuple)) else (keys,)
        try:
            super().hdel(self.make_key(name, shared=shared), *keys)
        except redis.exceptions.ConnectionError:
            pass


def setup_cache():
    return RedisWrapper.from_url(frappe.conf.redis_cache)
