#!/bin/sh
# Makes etcd 3.5 available, from Debian trixie, and prints the folder with it. Debian 12's 3.4.23 tells no progress of its
# watches, which a kube-apiserver needs to stream lists (etcd 3.4.31, 3.5.13 and later do). Quick when it is there already.
set -eu
. "$(dirname "$0")/debian.sh"
root=$cache/etcd/root
bin=$cache/etcd/bin

if ! complete; then
    begin
    from_suite trixie etcd-server
    unpack
    ln -sfn "$root/usr/bin/etcd" "$bin/etcd"
    done_for_good
fi
echo "$bin"
