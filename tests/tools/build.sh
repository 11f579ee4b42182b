#!/bin/sh
# build.sh TAG [--builder REFERENCE | --program FILE]: builds the Dockerfile as localhost/podsonar:TAG into the storage that
# containers.sh speaks of. Its first stage, which compiles, begins with an image of a registry (--builder); or with one that
# has only names for this machine's own compiler, Rust and fetched crates, which are mounted into its steps, and what cargo made
# stays in the cache; or FILE is taken for what it would make, and the second stage alone is built, in a second (--program).
set -eu
tools=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar/containers
PATH=$("$tools/containers.sh"):$PATH
policy=$cache/root/etc/containers/policy.json
tag=$1
way=${2:-}
what=${3:-}
# Cache mounts of builds are here.
export TMPDIR=$cache/tmp
mkdir -p "$TMPDIR"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# own: makes the base image of this machine's names, and sets the build's arguments for it.
own() {
    builder=localhost/podsonar-builder:3
    rust=$(rustc --print sysroot)
    registry=${CARGO_HOME:-$HOME/.cargo}/registry
    (cd "$tools/../.." && cargo fetch --locked --quiet)
    if ! buildah inspect --type image $builder >/dev/null 2>&1; then
        mkdir -p "$work/usr" "$work/etc/alternatives" "$work/rust" "$work/cargo/registry" "$work/tmp"
        chmod 1777 "$work/tmp"
        for name in bin lib lib64; do ln -s usr/$name "$work/$name"; done
        container=$(buildah from scratch)
        buildah add --quiet "$container" "$work" / >/dev/null
        buildah config --env PATH=/rust/bin:/usr/bin:/bin --env CARGO_HOME=/cargo "$container"
        buildah commit --quiet --rm --signature-policy "$policy" "$container" $builder >/dev/null
    fi
    set -- --build-arg BUILDER=$builder --build-arg CARGO_NET_OFFLINE=true --pull-never --network none
    # Not all of /usr: the Dockerfile's cache for crates has its place there, and cannot be made in a read-only folder.
    for folder in /usr/bin /usr/include /usr/lib /usr/lib64 /usr/libexec /etc/alternatives; do
        [ ! -d $folder ] || set -- "$@" --volume "$folder:$folder:ro"
    done
    set -- "$@" --volume "$rust:/rust:ro" --volume "$registry:/cargo/registry:ro"
    arguments=$*
}

# made FILE: puts it in the first stage's place, by the stage's name in the Dockerfile.
made() {
    mkdir "$work/build"
    cp "$1" "$work/build/podsonar"
    arguments="--build-context build=$work/build --pull-never --network none"
}

case $way in
--builder) arguments="--network host --build-arg BUILDER=$what" ;;
--program) made "$what" ;;
'') own ;;
*)
    echo "build.sh: no such option: $way" >&2
    exit 2
    ;;
esac
# Without times of its own an image of the same sources is the same image. A stage that is left out is no reason to warn.
# shellcheck disable=SC2086 # the arguments are several words, on purpose
buildah --log-level error build --isolation oci --layers --timestamp 0 --signature-policy "$policy" \
    $arguments --tag "localhost/podsonar:$tag" "$tools/../.."
