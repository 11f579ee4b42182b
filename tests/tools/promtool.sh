#!/bin/sh
# promtool.sh ARGUMENTS: runs Prometheus' own linter, the one of the Debian package that the lab's server is from.
set -eu
bin=$("$(dirname "$0")/servers.sh")
exec "$bin/promtool" "$@"
