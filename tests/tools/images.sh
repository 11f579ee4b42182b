#!/bin/sh
# Packs the container images that the lab's cluster runs beside the agent, from programs that kubernetes.sh and
# servers.sh make available, and prints the folder with them: pause, busybox, nginx and coredns, as lab.local/NAME:1.
# Quick when they are there already.
set -eu
tools=$(cd "$(dirname "$0")" && pwd)
cluster=$("$tools/kubernetes.sh")
servers=$("$tools/servers.sh")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/podsonar
key=$({ cat "$0" "$tools/image.sh"; readlink "$cluster/coredns"; ls -l "$servers/nginx" "$cluster/busybox"; } | sha256sum | cut -c1-16)
images=$cache/cluster/images-$key

if ! [ -e "$images/complete" ]; then
    mkdir -p "$images"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT INT TERM

    image() { "$tools/image.sh" "lab.local/$1:1" "$work/$1" "$2" "$images/$1.tar"; }

    # What programs expect around them, and busybox under all of its names.
    base() {
        for folder in bin sbin etc tmp usr/bin usr/sbin var/log/nginx var/lib/nginx run proc sys dev; do
            mkdir -p "$work/$1/$folder"
        done
        chmod 1777 "$work/$1/tmp"
        printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$work/$1/etc/passwd"
        printf 'root:x:0:\nnogroup:x:65534:\n' >"$work/$1/etc/group"
        cp -L "$cluster/busybox" "$work/$1/bin/busybox"
        for name in $("$cluster/busybox" --list); do
            [ -e "$work/$1/bin/$name" ] || ln -s busybox "$work/$1/bin/$name"
        done
    }

    # The container that holds a pod's namespaces; containerd ends it by SIGKILL.
    mkdir -p "$work/pause"
    cp -L "$cluster/busybox" "$work/pause/busybox"
    image pause '["/busybox","sleep","2147483647"]'

    base busybox
    image busybox '["/bin/sh"]'

    # Debian's nginx with its libraries, the machine's and those that were unpacked beside it. It says its host's name.
    base nginx
    starter=$(tail -n 1 "$servers/nginx")
    program=$(echo "$starter" | sed 's/.* exec //; s/ .*//')
    libraries=$(echo "$starter" | sed 's/^LD_LIBRARY_PATH=//; s/ .*//')
    cp "$program" "$work/nginx/usr/sbin/nginx"
    LD_LIBRARY_PATH=$libraries ldd "$program" | grep -o '/[^ )]*' | while read -r library; do
        case $library in
        /lib*/ld-*) to=$work/nginx$library ;;
        *) to=$work/nginx/usr/lib/$(basename "$library") ;;
        esac
        mkdir -p "$(dirname "$to")"
        cp -L "$library" "$to"
    done
    cat >"$work/nginx/etc/nginx.conf" <<'N'
daemon off;
user root;
pid /run/nginx.pid;
error_log /dev/stderr;
worker_processes 1;
events {}
http {
    access_log off;
    server {
        listen 80;
        listen [::]:80;
        location / { default_type text/plain; return 200 "$hostname\n"; }
    }
}
N
    image nginx '["/usr/sbin/nginx","-c","/etc/nginx.conf"]'

    mkdir -p "$work/coredns"
    cp -L "$cluster/coredns" "$work/coredns/coredns"
    image coredns '["/coredns"]'
    touch "$images/complete"
fi
ln -sfn "$images" "$cache/cluster/images"
echo "$images"
