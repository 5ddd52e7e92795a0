#!/usr/bin/env bash
# The container's start: what frappe_docker's one-shot configurator does, then
# the web server as process 1.
set -euo pipefail
cd "$(dirname "$0")/sites"

url() { case $1 in redis://*) printf '%s' "$1" ;; *) printf 'redis://%s' "$1" ;; esac; }

# STANDIN_PACE goes into the file too: the runner is started with an empty environment.
# A second container on the same volume finds the file complete and leaves it.
if [ ! -s common_site_config.json ]; then
	cat >common_site_config.json.new <<JSON
{
 "db_host": "${DB_HOST:-127.0.0.1}",
 "db_port": ${DB_PORT:-3306},
 "redis_cache": "$(url "${REDIS_CACHE:-127.0.0.1:6379}")",
 "redis_queue": "$(url "${REDIS_QUEUE:-127.0.0.1:6379}")",
 "redis_socketio": "$(url "${REDIS_QUEUE:-127.0.0.1:6379}")",
 "standin_pace": ${STANDIN_PACE:-0.6}
}
JSON
	mv common_site_config.json.new common_site_config.json
fi
printf '%s' "${STANDIN_FRAPPE:-15}" >../config/standin_frappe
exec ../env/bin/python -u ../web.py "$@"
