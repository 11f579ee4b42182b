#!/usr/bin/env bash
# image.sh IMAGE: what the image is, and that it works with what the chart gives it and no more: capability NET_RAW alone, no
# new privileges, a read-only root, the runtime's seccomp profile, 64 MiB. It probes a real neighbour over a real link. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1
PATH=$(tools/containers.sh):$PATH
here=podsonar-image-$$ there=podsonar-there-$$
container=

cleanup() {
    [ -z "$container" ] || podman rm --force "$container" >/dev/null
    for space in $here $there; do ip netns delete $space 2>/dev/null || true; done
}
trap cleanup EXIT

ok() { echo "ok: $*"; }
fail() { echo "image.sh: $*" >&2; exit 1; }
# claim WORDS COMMAND...: the claim holds if the command says yes.
claim() { local words=$1; shift; "$@" && ok "$words" || fail "not so: $words"; }
fact() { podman inspect --format "$1" "$image"; }
status() { awk -v name="$1:" '$1 == name { print $2 }' "/proc/$process/status"; }
inside() { podman exec "$container" "$@"; }
scrape() { ip netns exec $here curl --silent --show-error --max-time 5 http://127.0.0.1:19988/metrics; }
# probed WORDS LABELS: some round trip was observed on a path with these labels.
probed() { scrape | grep "^podsonar_rtt_seconds_count{.*$1" | grep -vq ' 0$'; }

echo "What it is"
bytes=$(fact '{{.Size}}')
claim "$bytes bytes are under 15 MB" test "$bytes" -lt 15000000
claim "an image is for a named architecture" grep -qxE 'amd64|arm64' <<<"$(fact '{{.Architecture}}')"
claim "its user is a number, 0" test "$(fact '{{.Config.User}}')" = 0:0
version=$(../.ci/version crate)
claim "its version label is the crate's" test "$(fact '{{index .Labels "org.opencontainers.image.version"}}')" = "$version"
for label in title description licenses; do
    claim "it has a label $label" test -n "$(fact "{{index .Labels \"org.opencontainers.image.$label\"}}")"
done

echo "Under the chart's security context"
ip netns add $here
ip netns add $there
ip link add name wire netns $here type veth peer name wire netns $there
for space in $here $there; do
    ip -netns $space link set lo up
    ip -netns $space link set wire up
done
ip -netns $here address add 192.0.2.1/24 dev wire
ip -netns $there address add 192.0.2.2/24 dev wire
# Port 1 is closed: its RST proves the path.
container=$(podman run --detach --pull never --network ns:/run/netns/$here --user 0:0 --cap-drop ALL --cap-add NET_RAW \
    --security-opt no-new-privileges --read-only --read-only-tmpfs=false --memory 64m "$image" \
    run --source here --target 192.0.2.2:1 --interval 250ms)
process=$(podman inspect --format '{{.State.Pid}}' "$container")

claim "it may use NET_RAW and no other capability" test "$(status CapEff) $(status CapBnd)" = "0000000000002000 0000000000002000"
claim "it gets no new privileges" test "$(status NoNewPrivs)" = 1
claim "seccomp filters its calls" test "$(status Seccomp)" = 2
claim "its memory is limited to 64 MiB" test "$(podman inspect --format '{{.HostConfig.Memory}}' "$container")" = 67108864
claim "its root is read-only" test "$(podman inspect --format '{{.HostConfig.ReadonlyRootfs}}' "$container")" = true
claim "one file is in it" test "$(podman export "$container" | tar -t --exclude 'dev*' --exclude 'proc*' --exclude 'sys*' \
    --exclude 'run*' --exclude 'etc*' | grep -v '/$')" = podsonar
for shell in sh bash /bin/sh; do
    claim "it has no $shell" test "$(inside $shell -c true >/dev/null 2>&1 && echo started)" = ""
done
for name in podsonar /podsonar; do
    claim "$name starts it, as people may call it" test "$(inside $name --version)" = "podsonar $version"
done
claim "the host lets it do all that it wants" test "$(inside podsonar preflight >/dev/null && echo all)" = all

# Looks until all three are seen, or gives up.
deadline=$((SECONDS + 20))
until probed 'kind="control"' && probed 'protocol="icmp".*destination="192.0.2.2:1"' && probed 'protocol="tcp".*destination="192.0.2.2:1"'; do
    [ $SECONDS -lt $deadline ] || { scrape | grep ^podsonar_probes; fail "it does not probe"; }
    sleep 0.2
done
ok "it probes loopback and a neighbour, by ICMP and TCP, with kernel stamps"
claim "it lost nothing" test "$(scrape | awk '/^podsonar_probes_total.*result="lost"/ { sum += $2 } END { print sum + 0 }')" = 0
claim "it says what it sees" grep -q 'no fault is known' <<<"$(inside podsonar status)"
peak=$(awk '$1 == "VmHWM:" { print $2 }' "/proc/$process/status")
claim "its memory never was over 32 MiB ($peak kB)" test "$peak" -lt 32768
podman stop --time 10 "$container" >/dev/null
claim "it ends on SIGTERM with exit code 0" test "$(podman inspect --format '{{.State.ExitCode}}' "$container")" = 0
