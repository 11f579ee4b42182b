#!/bin/sh
# Makes the programs that the benchmarks compare podsonar with available, and prints the folder with their starters:
# fping and oping from this Debian, smokeping_prober and blackbox_exporter from Debian trixie (older Debians lack the
# former). Quick when they are there already.
set -eu
. "$(dirname "$0")/debian.sh"
root=$cache/peers/root
bin=$cache/peers/bin

if ! complete; then
    begin
    with_libraries fping oping
    from_suite trixie prometheus-smokeping-prober prometheus-blackbox-exporter
    unpack
    starter fping fping
    starter oping oping
    starter smokeping_prober '*smokeping*prober'
    starter blackbox_exporter '*blackbox*exporter'
    done_for_good
fi
echo "$bin"
