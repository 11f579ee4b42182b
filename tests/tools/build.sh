#!/bin/sh
# build.sh TAG [BUILDER]: builds the Dockerfile as localhost/podsonar:TAG into the storage that containers.sh speaks of.
# With BUILDER, a reference, from a registry; without one by this machine's own compiler, Rust and fetched crates, which
# are mounted into the steps of an image that has only names for them. What cargo made stays in the cache.
set -eu
tools=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar/containers
PATH=$("$tools/containers.sh"):$PATH
policy=$cache/root/etc/containers/policy.json
tag=$1
builder=${2:-}
# Cache mounts of builds are here.
export TMPDIR=$cache/tmp
mkdir -p "$TMPDIR"

# own: makes the base image of this machine's names, and sets the build's arguments for it.
own() {
    builder=localhost/podsonar-builder:3
    rust=$(rustc --print sysroot)
    registry=${CARGO_HOME:-$HOME/.cargo}/registry
    (cd "$tools/../.." && cargo fetch --locked --quiet)
    if ! buildah inspect --type image $builder >/dev/null 2>&1; then
        work=$(mktemp -d)
        trap 'rm -rf "$work"' EXIT INT TERM
        mkdir -p "$work/usr" "$work/etc/alternatives" "$work/rust" "$work/cargo/registry" "$work/tmp"
        chmod 1777 "$work/tmp"
        for name in bin lib lib64; do ln -s usr/$name "$work/$name"; done
        container=$(buildah from scratch)
        buildah add --quiet "$container" "$work" / >/dev/null
        buildah config --env PATH=/rust/bin:/usr/bin:/bin --env CARGO_HOME=/cargo "$container"
        buildah commit --quiet --rm --signature-policy "$policy" "$container" $builder >/dev/null
    fi
    set -- --build-arg CARGO_NET_OFFLINE=true --pull-never --network none
    # Not all of /usr: the Dockerfile's cache for crates has its place there, and cannot be made in a read-only folder.
    for folder in /usr/bin /usr/include /usr/lib /usr/lib64 /usr/libexec /etc/alternatives; do
        [ ! -d $folder ] || set -- "$@" --volume "$folder:$folder:ro"
    done
    set -- "$@" --volume "$rust:/rust:ro" --volume "$registry:/cargo/registry:ro"
    arguments=$*
}

arguments="--network host"
[ -n "$builder" ] || own
# Without times of its own an image of the same sources is the same image.
# shellcheck disable=SC2086 # the arguments are several words, on purpose
buildah build --isolation oci --layers --timestamp 0 --signature-policy "$policy" --build-arg BUILDER="$builder" \
    $arguments --tag "localhost/podsonar:$tag" "$tools/../.."
