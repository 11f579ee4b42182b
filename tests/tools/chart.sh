#!/bin/sh
# Makes what the chart is checked with available, and prints the folder with it: helm (4), helm3, helm-unittest and
# helm-docs, and `crds`, the definitions of prometheus-operator's objects. All are built from the modules of the same
# names, which pin them and all they depend on (crds: operator/). Ten minutes on two cores the first time, quick when
# they are there already.
set -eu
tools=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar
bin=$cache/chart/bin
mkdir -p "$bin"

# module NAME: enters the module; sets $built, the folder for what is built from it, named after its pins.
module() {
    cd "$tools/$1"
    built=$cache/chart/$1-$(cat go.mod go.sum | sha256sum | cut -c1-16)
    [ -e "$built/complete" ] && return
    command -v go >/dev/null || { echo "chart.sh: go is missing; $1 is built from its Go module" >&2; exit 1; }
    echo "chart.sh: building $1; this takes minutes, once" >&2
    mkdir -p "$built"
}

# program NAME PACKAGE: builds a module's program and offers it under the module's name.
program() {
    module "$1"
    if ! [ -e "$built/complete" ]; then
        CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w" -o "$built/$1" "$2"
        touch "$built/complete"
    fi
    ln -sfn "$built/$1" "$bin/$1"
}

program helm-docs github.com/norwoodj/helm-docs/cmd/helm-docs
program helm-unittest github.com/helm-unittest/helm-unittest/cmd/helm-unittest
program helm helm.sh/helm/v4/cmd/helm
program helm3 helm.sh/helm/v3/cmd/helm

module operator
if ! [ -e "$built/complete" ]; then
    types=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1
    go tool controller-gen crd:crdVersions=v1 "paths=$types" "output:crd:dir=$built"
    touch "$built/complete"
fi
ln -sfn "$built" "$bin/crds"
echo "$bin"
