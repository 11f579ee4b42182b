#!/usr/bin/env bash
# What may be released and what may not: .ci/version judges copies of what it reads, each changed in one way.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(.ci/version crate)
unset TAG

fail() { echo "release.sh: $*" >&2; exit 1; }

# copy: the tree as it would be released today.
copy() {
  rm -rf "$work/tree"
  mkdir -p "$work/tree"
  cp --parents .ci/version Cargo.toml Dockerfile helm/podsonar/{Chart,values}.yaml CHANGELOG.md "$work/tree"
  sed -i "0,/^## \[.*/s//## [Unreleased]\n\n## [$version] - 2026-01-31/" "$work/tree/CHANGELOG.md"
}

# judge: what is said of the tree; fails if it may not be released.
judge() { "$work/tree/.ci/version" agree && "$work/tree/.ci/version" released; }

# refused WORDS WHY FILE SED: a tree with this change is refused, and that is why.
refused() {
  copy
  sed -i "$4" "$work/tree/$3"
  ! cmp --quiet "$3" "$work/tree/$3" || fail "nothing was changed: $1"
  ! said=$(judge 2>&1) || fail "it was not refused: $1"
  grep -qF "$2" <<<"$said" || fail "$1 is refused otherwise: $said"
  echo "ok: $1 is refused: ${said##*version: }"
}

copy
judge >/dev/null || fail "a dated release is refused"
echo "ok: a dated release may be released"
[ "$(TAG=v$version judge | tail -n 1)" = "$version may be released" ] || fail "its own tag is refused"
echo "ok: with its tag too"
! said=$(TAG=v9.9.9 judge 2>&1) || fail "another tag is taken"
grep -qF "the tag is v9.9.9, the crate $version" <<<"$said" || fail "another tag is refused otherwise: $said"
echo "ok: another tag is refused"

refused "a crate of another version" "that of the image is $version, the crate's is 9.9.9" Cargo.toml "s/^version = .*/version = \"9.9.9\"/"
refused "an image of another version" "that of the image is 9.9.9" Dockerfile 's/^ARG VERSION=.*/ARG VERSION=9.9.9/'
refused "a chart of another version" "that of the chart is 9.9.9" helm/podsonar/Chart.yaml 's/^version:.*/version: 9.9.9/'
refused "a chart of another agent" "that of the app is 9.9.9" helm/podsonar/Chart.yaml 's/^appVersion:.*/appVersion: "9.9.9"/'
refused "a changelog without the release" "CHANGELOG.md tells last of no release" CHANGELOG.md '/^## \[[0-9]/d'
refused "a changelog of another release" "CHANGELOG.md tells last of 9.9.9" CHANGELOG.md "s/^## \[$version\]/## [9.9.9]/"
refused "a release without a date" "CHANGELOG.md does not date $version" CHANGELOG.md "s/^\(## \[$version\]\) - .*/\1/"
refused "a release with a date that is none" "CHANGELOG.md does not date $version" CHANGELOG.md "s/^\(## \[$version\]\) - .*/\1 - soon/"
