#!/bin/sh
# Makes the parts of a real Kubernetes cluster available and prints the folder with them: the control plane, kubelet,
# kube-proxy, kubectl, containerd and CoreDNS, built from the modules kubernetes/, containerd/ and coredns/, which pin
# them and all they depend on; etcd, runc, busybox and the CNI plugins (folder cni) from Debian packages, unpacked but
# not installed. Nine minutes on two cores the first time, quick when they are there already.
#
# Kubernetes' own go.mod requires its published parts as v0.0.0 and replaces them by folders; kubernetes/go.mod replaces
# each by its published version.
set -eu
. "$(dirname "$0")/modules.sh"
. "$tools/debian.sh"
root=$cache/cluster/root
bin=$cache/cluster/bin

module kubernetes
if ! is_built; then
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
if ! is_built; then
    for program in containerd containerd-shim-runc-v2 ctr; do
        CGO_ENABLED=0 build -ldflags "-s -w" -tags "no_btrfs no_devmapper no_zfs no_aufs" \
            "github.com/containerd/containerd/v2/cmd/$program"
    done
fi
publish

module coredns
if ! is_built; then
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
