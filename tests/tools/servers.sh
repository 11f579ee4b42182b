#!/bin/sh
# Makes the servers of the lab available and prints the folder with their starters: nginx, knotd (with knotc and kdig)
# and prometheus (with promtool), from Debian packages. Quick when they are there already.
set -eu
. "$(dirname "$0")/debian.sh"
root=$cache/servers/root
bin=$cache/servers/bin

if ! complete; then
    begin
    with_libraries nginx knot knot-dnsutils
    alone prometheus
    unpack
    for program in nginx knotd knotc kdig prometheus promtool; do
        starter "$program" "$program"
    done
    done_for_good
fi
echo "$bin"
