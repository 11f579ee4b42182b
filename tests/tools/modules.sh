# Sourced by the scripts beside it: builds programs from the Go modules beside it, which pin them and all they depend on.
# Sets $tools and $cache. The script sets $bin, a folder that gets a link to each program.

tools=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar

# module NAME: sets $module and $built, the folder for what is built from it, named after its pins and this very script.
module() {
    module=$tools/$1
    built=$cache/$1-$(cat "$module"/go.mod "$module"/go.sum "$module"/*.go "$0" 2>/dev/null | sha256sum | cut -c1-16)
    is_built && return
    command -v go >/dev/null || { echo "$0: go is missing; $1 is built from its Go module" >&2; exit 1; }
    echo "$0: building $1; this takes minutes, once" >&2
    mkdir -p "$built"
}

# is_built: whether all of the module was built before.
is_built() { [ -e "$built/complete" ]; }

# build ARGUMENTS...: builds a program of the module into $built. Files of the source tree's version control,
# which would change each time, stay out of it.
build() { (cd "$module" && go build -mod=readonly -buildvcs=false -o "$built/" "$@"); }

# publish: offers what was built.
publish() {
    touch "$built/complete"
    mkdir -p "$bin"
    for program in "$built"/*; do
        [ "$program" = "$built/complete" ] || ln -sfn "$program" "$bin/"
    done
}
