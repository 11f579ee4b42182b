#!/bin/sh
# Makes Prometheus 3 and its promtool available, and prints the folder with the programs prometheus3 and promtool3, built
# from the module prometheus/. Minutes the first time, quick when they are there already.
set -eu
. "$(dirname "$0")/modules.sh"
bin=$cache/servers/bin

module prometheus
if ! is_built; then
    for program in prometheus promtool; do
        build -trimpath -o "$built/${program}3" "github.com/prometheus/prometheus/cmd/$program"
    done
fi
publish
echo "$bin"
