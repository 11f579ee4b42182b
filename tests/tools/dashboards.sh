#!/bin/sh
# dashboards.sh PROGRAM ARGUMENTS...: compiles dashboards/src, which checks it against the types of Grafana's published schema,
# and runs its main or draw. What package-lock.json pins is fetched once into a cache.
set -eu
source=$(cd "$(dirname "$0")/../../dashboards/src" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar
key=$(cat "$source/package-lock.json" | sha256sum | cut -c1-16)
built=$cache/dashboards-$key

if ! [ -e "$built/complete" ]; then
    command -v npm >/dev/null || { echo "dashboards.sh: npm is missing; dashboards are made from TypeScript" >&2; exit 1; }
    mkdir -p "$built"
    cp "$source/package.json" "$source/package-lock.json" "$built/"
    (cd "$built" && npm ci --no-audit --no-fund --ignore-scripts >&2)
    touch "$built/complete"
fi
# Editors find the types by this link, and so does the compiler.
ln -sfn "$built/node_modules" "$source/node_modules"
out=$(mktemp -d "$built/out.XXXXXX")
trap 'rm -rf "$out"' EXIT
"$built/node_modules/.bin/tsc" --project "$source" --outDir "$out"
program=$1
shift
node "$out/$program.js" "$@"
