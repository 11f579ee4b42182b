#!/bin/sh
# Makes the parts of a real Kubernetes cluster available and prints the folder with them: the control plane, kubelet,
# kube-proxy, kubectl, containerd and CoreDNS, built from the modules kubernetes/, containerd/ and coredns/, which pin
# them and all they depend on; etcd, runc, busybox and the CNI plugins (folder cni) from Debian packages, unpacked but
# not installed. Nine minutes on two cores the first time, quick when they are there already.
#
# Kubernetes' own go.mod requires its published parts as v0.0.0 and replaces them by folders; kubernetes/go.mod replaces
# each by its published version.
set -eu
tools=$(cd "$(dirname "$0")" && pwd)
. "$tools/debian.sh"
root=$cache/cluster/root
bin=$cache/cluster/bin

# module NAME: sets $module and $built, the folder for what is built from it, named after its pins.
module() {
    module=$tools/$1
    built=$cache/$1-$(cat "$module"/go.mod "$module"/go.sum "$module"/*.go "$0" 2>/dev/null | sha256sum | cut -c1-16)
    [ -e "$built/complete" ] && return
    command -v go >/dev/null || { echo "kubernetes.sh: go is missing; $1 is built from its Go module" >&2; exit 1; }
    echo "kubernetes.sh: building $1; this takes minutes, once" >&2
    mkdir -p "$built"
}

# publish: offers what was built.
publish() {
    touch "$built/complete"
    for program in "$built"/*; do
        [ "$program" = "$built/complete" ] || ln -sfn "$program" "$bin/"
    done
}

# build ARGUMENTS...: builds a program of the module into $built. Files of the source tree's version control, which
# would change each time, stay out of it.
build() { (cd "$module" && go build -mod=readonly -buildvcs=false -o "$built/" "$@"); }

mkdir -p "$bin"

module kubernetes
if ! [ -e "$built/complete" ]; then
    version=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" { print $3 }' "$module/go.mod")
    minor=$(echo "$version" | cut -d. -f2)
    facts=k8s.io/component-base/version
    for program in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
        build -ldflags "-s -w -X $facts.gitVersion=$version -X $facts.gitMajor=1 -X $facts.gitMinor=$minor \
            -X $facts.gitTreeState=clean -X $facts.gitCommit=unknown -X $facts.buildDate=2026-01-01T00:00:00Z" \
            "k8s.io/kubernetes/cmd/$program"
    done
fi
publish

module containerd
if ! [ -e "$built/complete" ]; then
    for program in containerd containerd-shim-runc-v2 ctr; do
        CGO_ENABLED=0 build -ldflags "-s -w" -tags "no_btrfs no_devmapper no_zfs no_aufs" \
            "github.com/containerd/containerd/v2/cmd/$program"
    done
fi
publish

module coredns
if ! [ -e "$built/complete" ]; then
    CGO_ENABLED=0 build -ldflags "-s -w -X github.com/coredns/coredns/coremain.GitCommit=lab" .
fi
publish

if ! complete; then
    begin
    alone etcd-server runc busybox-static containernetworking-plugins
    unpack
    ln -sfn "$root/usr/bin/etcd" "$root/usr/sbin/runc" "$root/bin/busybox" "$bin/"
    ln -sfn "$root/usr/lib/cni" "$bin/cni"
    done_for_good
fi
echo "$bin"
