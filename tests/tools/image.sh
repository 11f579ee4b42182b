#!/bin/sh
# image.sh NAME:TAG FOLDER ENTRYPOINT OUT.tar: packs a folder as a container image of one layer, in docker's archive
# format (https://github.com/moby/docker-image-spec, v1.2), without a builder or registry. ENTRYPOINT is a JSON list. The
# same folder gives the same bytes each time.
set -eu
name=$1 folder=$2 entrypoint=$3 out=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
pack="tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar"
digest() { sha256sum "$1" | cut -d' ' -f1; }

# The root itself belongs to the layer: an image without it, and so without its permissions, is one that only root enters.
chmod 755 "$folder"
$pack -C "$folder" -cf "$work/layer.tar" .
layer=$(digest "$work/layer.tar")
case $(uname -m) in aarch64) architecture=arm64 ;; *) architecture=amd64 ;; esac
printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Entrypoint":%s,"WorkingDir":"/","Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}' \
    "$architecture" "$entrypoint" "$layer" >"$work/config.json"
config=$(digest "$work/config.json")
mv "$work/config.json" "$work/$config.json"
mv "$work/layer.tar" "$work/$layer.tar"
printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["%s.tar"]}]' "$config" "$name" "$layer" >"$work/manifest.json"
$pack -C "$work" -cf "$out.new" "$config.json" "$layer.tar" manifest.json
mv "$out.new" "$out"
