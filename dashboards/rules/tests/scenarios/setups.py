"""Several clusters, both IP versions, other scrapes, clusters that change."""

from registry import scenario
from world import World, cluster_of


class Together:
    """Several worlds in one Prometheus."""

    def __init__(self, *worlds):
        self.worlds, self.step, self.evaluated = worlds, worlds[0].step, worlds[0].evaluated

    def series(self):
        return [series for world in self.worlds for series in world.series()]


@scenario
def the_same_names_in_another_cluster_are_not_mixed_up(cluster=None):
    bad, good = cluster_of(6, cluster=cluster), cluster_of(6, cluster="other")
    bad.off("n2")
    bad.lose("n1", "n3", 0.05)
    good.lose("n4", "n5", 0.05)
    return Together(bad, good), {
        20: [
            "PodsonarNodeUnreachable node=n2 zone=b",
            "PodsonarPairLoss source=n1 source_zone=a destination=n3 destination_zone=c",
            "PodsonarPairLoss cluster=other source=n4 source_zone=a destination=n5 destination_zone=b",
        ]
    }


@scenario
def a_cluster_that_vanishes_beside_another_is_told(cluster=None):
    gone, good = cluster_of(3, cluster=cluster), cluster_of(3, cluster="other")
    for node in gone.nodes:
        gone.unscraped(node)
    return Together(gone, good), {15: ["PodsonarAbsent"]}


def dual(count, **more):
    """Both IP versions: what happens to the second is the caller's to say."""
    return cluster_of(count, **more), cluster_of(count, family="6", **more)


@scenario
def a_healthy_dual_stack_cluster_is_silent(**more):
    return Together(*dual(6, **more)), {20: []}


@scenario
def a_node_that_loses_only_ipv6_is_told_once(**more):
    four, six = dual(6, **more)
    six.lose("n2", None, 0.05)
    return Together(four, six), {20: ["PodsonarNodeLossOut node=n2 zone=b direction=out"]}


@scenario
def a_pair_that_is_cut_by_ipv6_alone_is_one_pair(**more):
    four, six = dual(6, **more)
    six.lose("n1", "n2", 1)
    six.lose("n2", "n1", 1)
    return Together(four, six), {20: ["PodsonarPairLoss source=n1 source_zone=a destination=n2 destination_zone=b"]}


@scenario
def a_node_that_no_ipv6_reaches_loses_packets(**more):
    four, six = dual(6, **more)
    six.lose(None, "n2", 1)
    six.lose("n2", None, 1)
    return Together(four, six), {20: ["PodsonarNodeLoss node=n2 zone=b direction=both_or_unknown"]}


@scenario
def a_dual_stack_node_that_is_off_is_told_once(**more):
    four, six = dual(6, **more)
    four.off("n2")
    six.off("n2")
    return Together(four, six), {10: ["PodsonarNodeUnreachable node=n2 zone=b"]}


@scenario
def a_scrape_each_minute_is_enough(**more):
    world = cluster_of(6, step=60, **more)
    world.off("n2")
    world.lose("n4", "n5", 0.05)
    return world, {
        4: [],
        20: [
            "PodsonarNodeUnreachable node=n2 zone=b",
            "PodsonarPairLoss source=n4 source_zone=a destination=n5 destination_zone=b",
        ],
    }


@scenario
def nodes_whose_zones_become_known_late_are_silent(**more):
    world = cluster_of(6, **more)
    early = World({n: "" for n in world.nodes}, **more)
    for node in world.nodes:
        world.away.append((node, 0, 5, "unscraped"))
        early.unscraped(node, 5)
    return Together(early, world), {m: [] for m in range(3, 21)}


@scenario
def a_lossy_node_that_others_leave_is_told_all_the_time(**more):
    world = cluster_of(9, **more)
    world.lose("n2", None, 0.05, 0)
    for i in (3, 4, 5, 6):
        world.gone(f"n{i}", 12)
    return world, {m: ["PodsonarNodeLossOut node=n2 zone=b direction=out"] for m in range(11, 21)}


@scenario
def flapping_nodes_are_told(**more):
    world = cluster_of(6, **more)
    for minute in (5, 7, 9):
        world.off("n2", minute, minute + 1)
    return world, {20: [], 14: ["PodsonarNodeLoss node=n2 zone=b direction=both_or_unknown"]}


@scenario
def nodes_without_room_for_series_are_no_node(**more):
    world = cluster_of(4, minutes=25, **more)
    for node, zone in world.nodes.items():
        path = {"protocol": "icmp", "family": "4", "kind": "agent", "source": node, "source_zone": zone, "destination": "other"}
        world.says(node, "podsonar_probes_total", lambda s: 9 * s, 0, result="reply", **path)
        world.says(node, "podsonar_probes_total", lambda s: s, 0, result="lost", **path)
        world.says(node, "podsonar_rtt_floor_seconds", 0.001, 0, **path)
    return world, {25: []}
