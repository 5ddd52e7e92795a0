#!/usr/bin/env bash
# Starts a stand-in bench on the host's network.
#
# usage: start.sh NAME HTTP_PORT DB_HOST DB_PORT REDIS_CACHE REDIS_QUEUE
#   REDIS_*             host:port or redis:// URL
#   STANDIN_IMAGE       default nexus-standin:latest
#   STANDIN_SERVICE     Compose service label, default backend
#   STANDIN_PROJECT     Compose project label, default NAME
#   STANDIN_PACE        seconds a new-site takes, default 0.6
#   STANDIN_FRAPPE      the release it stands for: 15 (default) or 16
#   STANDIN_INIT        1: under an init process, as with "init: true" in Compose
#   STANDIN_SITES       a volume for sites/ (several containers of one bench); default: one that dies with it
# Stop it with: docker rm -fv NAME
set -euo pipefail
[ $# -eq 6 ] || {
	sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
	exit 2
}
options=()
if [ -n "${STANDIN_SITES:-}" ]; then options+=(--volume "$STANDIN_SITES:/home/frappe/frappe-bench/sites"); fi
if [ -n "${STANDIN_INIT:-}" ]; then options+=(--init); fi
exec docker run --detach --name "$1" --network host "${options[@]}" \
	--label "com.docker.compose.service=${STANDIN_SERVICE:-backend}" \
	--label "com.docker.compose.project=${STANDIN_PROJECT:-$1}" \
	--label com.docker.compose.container-number=1 \
	--env "STANDIN_HTTP=127.0.0.1:$2" --env "DB_HOST=$3" --env "DB_PORT=$4" \
	--env "REDIS_CACHE=$5" --env "REDIS_QUEUE=$6" --env "STANDIN_PACE=${STANDIN_PACE:-0.6}" --env "STANDIN_FRAPPE=${STANDIN_FRAPPE:-15}" \
	"${STANDIN_IMAGE:-nexus-standin:latest}"
