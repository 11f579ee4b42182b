#!/bin/sh
# Makes buildah and podman available and prints the folder with their starters, from Debian packages. They keep images in
# a folder of their own in the cache, as plain files, so that neither another container tool of this machine nor its
# kernel's overlays matter. Quick when they are there already.
set -eu
. "$(dirname "$0")/debian.sh"
root=$cache/containers/root
bin=$cache/containers/bin

if ! complete; then
    begin
    with_libraries buildah podman conmon runc
    unpack
    # Nothing of these files is asked for over a network: the tests' images are made here.
    etc=$root/etc/containers
    cat >"$etc/storage.conf" <<C
[storage]
driver = "vfs"
graphroot = "$cache/containers/storage"
runroot = "/run/podsonar-containers"
C
    # The limits: runc would be refused the usual ones where it may not raise its own.
    cat >"$etc/containers.conf" <<C
[containers]
seccomp_profile = "$root/usr/share/containers/seccomp.json"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["$root/usr/bin/conmon"]
[engine.runtimes]
runc = ["$bin/runc"]
C
    for name in runc buildah podman; do
        starter "$name" "$name"
    done
    files="CONTAINERS_CONF=$etc/containers.conf CONTAINERS_STORAGE_CONF=$etc/storage.conf CONTAINERS_REGISTRIES_CONF=$etc/registries.conf"
    sed -i "1a export $files" "$bin/buildah" "$bin/podman"
    done_for_good
fi
echo "$bin"
