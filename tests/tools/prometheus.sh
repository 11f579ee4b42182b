#!/bin/sh
# Builds Prometheus 3 from the module in prometheus/, which pins it and all it depends on, into a cache, and prints the
# folder with the program prometheus3. Minutes the first time, quick when it is there already.
set -eu
module=$(cd "$(dirname "$0")/prometheus" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar
key=$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c1-16)
built=$cache/prometheus-$key/prometheus
bin=$cache/servers/bin

if ! [ -x "$built" ]; then
    command -v go >/dev/null || { echo "prometheus.sh: go is missing; Prometheus 3 is built from its Go module" >&2; exit 1; }
    echo "prometheus.sh: building Prometheus 3; this takes minutes, once" >&2
    mkdir -p "$cache/prometheus-$key"
    (cd "$module" && go build -mod=readonly -trimpath -o "$built.new" github.com/prometheus/prometheus/cmd/prometheus)
    mv "$built.new" "$built"
fi
mkdir -p "$bin"
ln -sfn "$built" "$bin/prometheus3"
echo "$bin"
