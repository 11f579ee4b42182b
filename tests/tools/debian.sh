# Sourced by the scripts beside it: makes programs of Debian packages available without installing them, so that no
# server is ever started by its package and nothing of the system changes. They come from the mirror that this
# machine's own apt uses, and are unpacked into the folder $root; $bin gets a small starter for each.
# Sets $cache, and $work, a folder that is removed at the end.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar

for tool in apt-get dpkg; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is missing; the programs come from Debian packages" >&2; exit 1; }
done

# begin: a folder to work in, and the machine's package lists.
begin() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT INT TERM
    mkdir -p "$work/packages/partial" "$work/state/lists/partial" "$work/cache/archives/partial"
    apt-get indextargets | grep -q . || apt-get -q update >&2
}

# fetch COMMAND...: runs it; if that fails, once more with new package lists, since old ones name packages that are gone.
fetch() { "$@" || { apt-get -q update >&2 && "$@"; }; }

# with_libraries PACKAGE...: fetches packages of this Debian, and of what they need what is not installed.
# No lock is needed, since nothing is installed.
with_libraries() {
    fetch apt-get -qy -o Debug::NoLocking=true -o APT::Sandbox::User=root -o Dir::Cache::archives="$work/packages" \
        install --download-only --reinstall --no-install-recommends "$@" >&2
}

# alone PACKAGE...: fetches packages of this Debian whose programs need nothing else.
alone() { (cd "$work/packages" && fetch apt-get -q -o APT::Sandbox::User=root download "$@" >&2); }

# from_suite SUITE PACKAGE...: fetches packages of another Debian whose programs need nothing else, by a second state of
# apt with the machine's own mirror and keyring.
from_suite() {
    targets=$(apt-get indextargets --format '$(REPO_URI) $(SIGNED_BY)' 'Created-By: Packages' | grep -v security)
    mirror=$(echo "$targets" | awk 'NR == 1 { print $1 }')
    keyring=$(echo "$targets" | awk 'NR == 1 { print $2 }')
    case $keyring in /*) options="[signed-by=$keyring]" ;; *) options= ;; esac
    echo "deb $options $mirror $1 main" >"$work/sources.list"
    shift
    second_apt update >&2
    (cd "$work/packages" && second_apt download "$@" >&2)
}

second_apt() {
    apt-get -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State="$work/state" -o Dir::State::status=/var/lib/dpkg/status -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User=root "$@"
}

# complete: whether this very script has done its work before.
complete() { [ -e "$root/complete-$(cksum <"$0" | tr -d ' ')" ]; }

# done_for_good: remembers that it has.
done_for_good() { touch "$root/complete-$(cksum <"$0" | tr -d ' ')"; }

# unpack: puts all that was fetched into $root.
unpack() {
    mkdir -p "$root" "$bin"
    for package in "$work"/packages/*.deb; do
        dpkg -x "$package" "$root"
    done
}

# starter NAME PROGRAM: makes $bin/NAME start that program of $root with the libraries there.
starter() {
    program=$(find "$root" -type f -name "$2" -path '*bin/*' | head -n 1)
    [ -n "$program" ] || { echo "$0: no package has the program $2" >&2; exit 1; }
    libraries=$(find "$root" -name '*.so*' -path '*-linux-gnu/*' -printf '%h\n' | sort -u | paste -sd:)
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$libraries" "$program" >"$bin/$1.new"
    chmod +x "$bin/$1.new"
    mv "$bin/$1.new" "$bin/$1"
}
