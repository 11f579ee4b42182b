#!/bin/sh
# agents.sh FOLDER PROGRAM NEXT: packs the agent and that of the next versions, each in the image that the Dockerfile makes,
# as archives for clusters to import: FOLDER/podsonar.tar and FOLDER/next.tar. In a cluster they are lab.local/podsonar:1 and :next, and
# also what the chart asks for when nothing is said, of this version and with the tag next. Seconds.
set -eu
tools=$(cd "$(dirname "$0")" && pwd)
PATH=$("$tools/containers.sh"):$PATH
policy=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar/containers/root/etc/containers/policy.json
folder=$1
default=$("$tools/../../.ci/version" reference)
mkdir -p "$folder"

# archive FILE PROGRAM NAME...: the image around a program, under these names.
archive() {
    file=$folder/$1
    tag=lab-${1%.tar}
    "$tools/build.sh" "$tag" --program "$2" >/dev/null
    shift 2
    rm -f "$file.new"
    podman save --quiet --signature-policy "$policy" --format docker-archive --output "$file.new" "localhost/podsonar:$tag" "$@"
    mv "$file.new" "$file"
}

archive podsonar.tar "$2" lab.local/podsonar:1 "$default"
archive next.tar "$3" lab.local/podsonar:next "${default%:*}:next"
