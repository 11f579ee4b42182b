"""What is recorded for people and dashboards."""

from registry import scenario
from scenarios.dns import asked
from world import cluster_of


SLI = 'round(podsonar:availability:ratio_rate5m{scope="%s", source_zone=~"a|"}, 0.001)'


@scenario
def availability_is_the_share_of_probes_that_are_answered(**more):
    world = cluster_of(6, **more)
    world.lose("n1", "n2", 0.1)
    world.lose("n4", "n2", 0.1)
    healthy = {f"- scope=zone_pair source_zone=a destination_zone={zone}": 1 for zone in "ac"}
    return world, {}, [
        (20, SLI % "zone_pair", healthy | {"- scope=zone_pair source_zone=a destination_zone=b": 0.95}),
        (20, SLI % "cluster", {"- scope=cluster": 0.987}),
    ]


@scenario
def availability_without_enough_agents_is_no_number(**more):
    world = cluster_of(6, **more)
    world.unscraped("n1")
    return world, {}, [
        (4, SLI % "cluster", {"- scope=cluster": 1}),
        (10, SLI % "zone_pair", {}),
        (10, SLI % "cluster", {"- scope=cluster": 1}),
    ]


@scenario
def availability_of_half_a_cluster_is_no_number(**more):
    world = cluster_of(6, **more)
    for i in (1, 2, 3):
        world.unscraped(f"n{i}")
    return world, {}, [(10, SLI % "cluster", {})]


@scenario
def availability_counts_a_node_that_is_off(**more):
    world = cluster_of(6, **more)
    world.off("n2")
    return world, {}, [(20, SLI % "zone_pair", {
        "- scope=zone_pair source_zone=a destination_zone=a": 1,
        "- scope=zone_pair source_zone=a destination_zone=b": 0.5,
        "- scope=zone_pair source_zone=a destination_zone=c": 1,
    })]


# In microseconds, to the nearest ten.
P99 = 'round(podsonar:zone_pair_rtt_seconds:p99_5m{source_zone="a"} * 1e6, 10)'


def round_trips(world, classic=None, native=None):
    """Round trips of agents of a to b: all in the bucket below `classic` seconds, all in the native bucket `native`."""
    labels = world.path("n1", "n2") | {"protocol": "icmp", "family": "4", "kind": "agent"}
    for le in ("0.0001", "0.00025", "0.0005", "0.001", "+Inf") if classic else ():
        world.says("n1", "podsonar_rtt_seconds_bucket", lambda s, le=le: s if float(le) >= classic else 0, 0, le=le, **labels)
    if native is not None:
        world.says("n1", "podsonar_rtt_seconds", lambda s: histogram(s, native), 0, **labels)


def histogram(count, bucket):
    """A native histogram of ratio 1.09 between bounds with all in one bucket."""
    return f"{{{{schema:3 count:{count} sum:{count} offset:{bucket} buckets:[{count}]}}}}"


@scenario
def classic_histograms_give_quantiles(**more):
    world = cluster_of(3, **more)
    round_trips(world, classic=0.0005)
    return world, {}, [(20, P99, {"- protocol=icmp source_zone=a destination_zone=b": 500})]


@scenario
def native_histograms_give_quantiles(**more):
    # Bucket -88 of schema 3 ends at 2^-11 = 0.000488.
    world = cluster_of(3, **more)
    round_trips(world, native=-88)
    return world, {}, [(20, P99, {"- protocol=icmp source_zone=a destination_zone=b": 490})]


@scenario
def native_histograms_go_before_classic_ones(**more):
    world = cluster_of(3, **more)
    round_trips(world, classic=0.0001, native=-88)
    return world, {}, [(20, P99, {"- protocol=icmp source_zone=a destination_zone=b": 490})]


@scenario
def native_histograms_tell_a_slow_name_server(**more):
    world = cluster_of(3, minutes=30, **more)
    asked(world, "10.96.0.10", lambda m: 0)
    for node, zone in world.nodes.items():
        # Bucket -8 of schema 3 ends at half a second.
        world.says(node, "podsonar_dns_duration_seconds", lambda s: histogram(s, -8), 0, server="10.96.0.10",
                   source=node, source_zone=zone)
    return world, {30: ["PodsonarDnsServerSlow server=10.96.0.10"]}
