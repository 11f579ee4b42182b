#!/bin/sh
# Makes the programs that the benchmarks compare podsonar with available, and prints the folder that holds them:
# fping from this Debian, smokeping_prober from Debian trixie (older Debians do not have it).
# They come from the mirror that this machine's own apt uses. Nothing of the system is changed: packages are unpacked
# into a cache. Quick when they are there already.
set -eu

cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar/peers
bin=$cache/bin

if [ -x "$bin/fping" ] && [ -x "$bin/smokeping_prober" ]; then
    echo "$bin"
    exit 0
fi

for tool in apt-get dpkg; do
    command -v "$tool" >/dev/null || { echo "peers.sh: $tool is missing; the peers come from Debian packages" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
mkdir -p "$bin" "$work/state/lists/partial" "$work/cache/archives/partial" "$work/unpacked"

# A second state of apt with the machine's own mirror and keyring, and the suite trixie.
indextargets=$(apt-get indextargets --format '$(REPO_URI) $(SIGNED_BY) $(RELEASE)' 'Created-By: Packages')
mirror=$(echo "$indextargets" | awk '$1 !~ /security/ { print $1; exit }')
keyring=$(echo "$indextargets" | awk '$1 !~ /security/ { print $2; exit }')
[ -n "$mirror" ] || { echo "peers.sh: apt has no package lists; run apt-get update" >&2; exit 1; }
case $keyring in /*) options="[signed-by=$keyring]" ;; *) options= ;; esac
echo "deb $options $mirror trixie main" >"$work/sources.list"

second_apt() {
    apt-get -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State="$work/state" -o Dir::State::status=/var/lib/dpkg/status -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User=root "$@"
}

(
    cd "$work"
    apt-get -q -o APT::Sandbox::User=root download fping
    second_apt update
    second_apt download prometheus-smokeping-prober || second_apt download smokeping-prober
    for package in ./*.deb; do
        dpkg -x "$package" unpacked
    done
) >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

program() { # NAME: the program file of that name among the unpacked
    find "$work/unpacked" -type f -name "$1" -path '*bin/*' | head -n 1
}
install "$(program fping)" "$bin/fping"
install "$(program '*smokeping*prober')" "$bin/smokeping_prober"
echo "$bin"
