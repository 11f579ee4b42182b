#!/bin/sh
# Builds Prometheus 3 and its promtool from the module in prometheus/, which pins them and all they depend on, into a cache,
# and prints the folder with the programs prometheus3 and promtool3. Minutes the first time, quick when they are there.
set -eu
module=$(cd "$(dirname "$0")/prometheus" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar
key=$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c1-16)
bin=$cache/servers/bin

mkdir -p "$bin"
for program in prometheus promtool; do
    built=$cache/prometheus-$key/$program
    if ! [ -x "$built" ]; then
        command -v go >/dev/null || { echo "prometheus.sh: go is missing; Prometheus 3 is built from its Go module" >&2; exit 1; }
        echo "prometheus.sh: building $program 3; this takes minutes, once" >&2
        mkdir -p "$cache/prometheus-$key"
        (cd "$module" && go build -mod=readonly -trimpath -o "$built.new" "github.com/prometheus/prometheus/cmd/$program")
        mv "$built.new" "$built"
    fi
    ln -sfn "$built" "$bin/${program}3"
done
echo "$bin"
