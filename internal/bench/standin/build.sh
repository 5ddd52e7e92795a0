#!/usr/bin/env bash
# Builds the stand-in bench image nexus-standin:<hash of this folder> and moves
# the tag :latest to it. Needs root (debootstrap) and a Docker daemon. Does
# nothing if the image is there; prints its name as the last line.
#
# usage: build.sh [--rootfs]     --rootfs: only fill the cache, no Docker needed
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=bookworm
# python3-cffi-backend is named because debootstrap cannot follow the virtual
# package that python3-cryptography depends on.
packages=python3,python3-pymysql,python3-redis,python3-click,python3-cryptography,python3-cffi-backend,mariadb-client,redis-tools,procps,tzdata
# Raise when the way the tarball is made changes.
recipe=1

# The layout of the official image.
bench=/home/frappe/frappe-bench

image_tag() {
	(cd "$here" && find . -type f ! -path '*/__pycache__/*' ! -path '*/.*/*' -print0 | sort -z |
		xargs -0 sha256sum; printf '%s' "$suite $packages $recipe") | sha256sum | cut -c1-12
}

# The host's own mirror: whatever apt is configured with is reachable from here.
mirror() {
	apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk -v s="$suite" '$1 == s && $2 == "main" { print $3; exit }'
}

# What debootstrap's own downloader must know of apt's configuration.
apt_network() {
	local proxy ca
	eval "$(apt-config shell proxy Acquire::http::Proxy ca Acquire::https::CaInfo)"
	if [ -n "${proxy:-}" ]; then export http_proxy=$proxy; fi
	if [ -n "${ca:-}" ]; then network_args+=(--ca-certificate="$ca"); fi
}

# make_rootfs TARBALL: Debian's packages and nothing else.
make_rootfs() {
	local tarball=$1 work uri network_args=()
	uri=$(mirror)
	if [ -z "$uri" ]; then
		echo "build.sh: apt has no source for $suite main; run apt-get update, or add one" >&2
		exit 1
	fi
	apt_network
	work=$(mktemp -d -p "$cache") # TMPDIR may be a small disk of a test's
	trap 'rm -rf "$work"' EXIT
	if ! debootstrap --variant=minbase --include="$packages" "${network_args[@]}" \
		"$suite" "$work/root" "$uri" >"$work/log" 2>&1; then
		tail -n 20 "$work/log" "$work/root/debootstrap/debootstrap.log" >&2 || true
		exit 1
	fi
	rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* \
		"$work"/root/usr/share/{doc,man,info,locale}/* "$work"/root/var/log/*
	chroot "$work/root" useradd --uid 1000 --create-home --shell /bin/bash frappe
	tar -C "$work/root" --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -cf "$tarball.part" .
	mv "$tarball.part" "$tarball"
	rm -rf "$work"
	trap - EXIT
}

# stage FOLDER: our own files, laid out as a bench.
stage() {
	local root=$1$bench app
	mkdir -p "$root"/{apps/frappe,env/bin,env/lib/python3.11/site-packages,sites/assets,config,logs,archived}
	cp -r "$here/frappe" "$root/apps/frappe/"
	cp -r "$here/apps/." "$root/apps/"
	cp "$here/web.py" "$here/entry.sh" "$root/"
	find "$root" -name __pycache__ -prune -exec rm -rf {} +
	# A virtual environment by hand: Debian splits off the module that makes one.
	ln -s /usr/bin/python3 "$root/env/bin/python"
	ln -s python "$root/env/bin/python3"
	install -m 755 "$here/bench.sh" "$root/env/bin/bench"
	printf 'home = /usr/bin\ninclude-system-site-packages = true\n' >"$root/env/pyvenv.cfg"
	for app in frappe erpnext hrms; do
		echo "$bench/apps/$app" >>"$root/env/lib/python3.11/site-packages/bench.pth"
	done
	printf 'frappe\nerpnext\nhrms\n' >"$root/sites/apps.txt"
}

make_image() {
	local rootfs=$1 tag=$2 work
	work=$(mktemp -d -p "$cache")
	trap 'rm -rf "$work"' EXIT
	stage "$work/stage"
	cp "$rootfs" "$work/image.tar"
	tar -C "$work/stage" --owner=1000 --group=1000 -rf "$work/image.tar" ".$bench"
	docker import \
		--change 'USER frappe' --change "WORKDIR $bench" \
		--change "ENV PATH=$bench/env/bin:/usr/local/bin:/usr/bin:/bin" \
		--change "VOLUME [\"$bench/sites\", \"$bench/logs\"]" \
		--change "CMD [\"bash\", \"$bench/entry.sh\", \"gunicorn\", \"frappe.app:application\"]" \
		"$work/image.tar" "nexus-standin:$tag" >/dev/null
	rm -rf "$work"
	trap - EXIT
}

cache=${XDG_CACHE_HOME:-$HOME/.cache}/nexus
rootfs=$cache/standin-$(printf '%s' "$suite $packages $recipe" | sha256sum | cut -c1-12).tar
tag=$(image_tag)

if [ "${1:-}" != --rootfs ] && docker image inspect "nexus-standin:$tag" >/dev/null 2>&1; then
	docker tag "nexus-standin:$tag" nexus-standin:latest
	echo "nexus-standin:$tag"
	exit 0
fi
mkdir -p "$cache"
# Two test runs may start at once; the second finds the first one's tarball.
exec 9>"$cache/standin.lock"
flock 9
if [ ! -s "$rootfs" ]; then make_rootfs "$rootfs"; fi
if [ "${1:-}" = --rootfs ]; then
	echo "$rootfs"
	exit 0
fi
make_image "$rootfs" "$tag"
docker tag "nexus-standin:$tag" nexus-standin:latest
echo "nexus-standin:$tag"
