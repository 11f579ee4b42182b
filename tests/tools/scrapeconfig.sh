#!/bin/sh
# Makes scrapeconfig available, and prints the folder with it: prometheus-operator's own generator of scrape configurations,
# built from the module scrapeconfig/. Five minutes on two cores the first time, quick when it is there already.
set -eu
. "$(dirname "$0")/modules.sh"
bin=$cache/chart/bin

module scrapeconfig
is_built || CGO_ENABLED=0 build -trimpath -ldflags "-s -w" -o "$built/scrapeconfig" .
publish
echo "$bin"
