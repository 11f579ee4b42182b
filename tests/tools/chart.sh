#!/bin/sh
# Makes what the chart is checked with available, and prints the folder with it: helm (4), helm3, helm-unittest and
# helm-docs, built from the modules of the same names, and `crds`, the definitions of prometheus-operator's objects, from
# operator/. Ten minutes on two cores the first time, quick when they are there already.
set -eu
. "$(dirname "$0")/modules.sh"
bin=$cache/chart/bin

# program NAME PACKAGE: builds a module's program and offers it under the module's name.
program() {
    module "$1"
    is_built || CGO_ENABLED=0 build -trimpath -ldflags "-s -w" -o "$built/$1" "$2"
    publish
}

program helm-docs github.com/norwoodj/helm-docs/cmd/helm-docs
program helm-unittest github.com/helm-unittest/helm-unittest/cmd/helm-unittest
program helm helm.sh/helm/v4/cmd/helm
program helm3 helm.sh/helm/v3/cmd/helm

module operator
if ! is_built; then
    types=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1
    (cd "$module" && go tool controller-gen crd:crdVersions=v1 "paths=$types" "output:crd:dir=$built/crds")
fi
publish
echo "$bin"
