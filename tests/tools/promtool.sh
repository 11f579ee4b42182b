#!/bin/sh
# promtool.sh ARGUMENTS: runs Prometheus' own linter, from Debian's package, unpacked into a cache: no server is
# installed or started. Quick when it is there already.
set -eu

cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar/prometheus
promtool=$cache/usr/bin/promtool

if [ ! -x "$promtool" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT INT TERM
    (
        cd "$work"
        download() { apt-get -q -o APT::Sandbox::User=root download prometheus; }
        download || { apt-get -q update && download; }
    ) >&2
    mkdir -p "$cache"
    dpkg -x "$work"/prometheus_*.deb "$cache"
    rm -rf "$work"
    trap - EXIT INT TERM
fi
exec "$promtool" "$@"
