"""What joins zones, and the cluster as a whole."""

from registry import covered, scenario
from world import World, cluster_of


@scenario
def loss_between_two_zones_is_one_zone_pair(**more):
    world = cluster_of(9, **more)
    a, b = world.zone("a"), world.zone("b")
    world.lose(a, b, 0.05)
    return world, {20: ["PodsonarZonePairLoss source_zone=a destination_zone=b"]}


@scenario
def a_zone_pair_cut_in_two_is_one_zone_pair(**more):
    world = cluster_of(9, **more)
    a, b = world.zone("a"), world.zone("b")
    world.lose(a, b, 1)
    world.lose(b, a, 1)
    return world, {10: ["PodsonarZonePairLoss source_zone=a destination_zone=b"]}


@covered("NodeUnreachable")
@scenario
def a_zone_that_is_off_is_told_by_each_other_zone(**more):
    world = cluster_of(9, **more)
    for node in world.zone("b"):
        world.off(node)
    return world, {
        10: [
            "PodsonarZonePairLoss source_zone=a destination_zone=b",
            "PodsonarZonePairLoss source_zone=c destination_zone=b",
        ]
    }


@scenario
def a_bad_node_of_a_small_zone_is_no_zone_pair(**more):
    world = World({f"n{i}": "a" if i <= 3 else "b" for i in range(1, 13)}, **more)
    world.lose("n1", None, 0.05)
    return world, {20: ["PodsonarNodeLossOut node=n1 zone=a direction=out"]}


@scenario
def a_zone_pair_and_a_bad_node_elsewhere_are_two(**more):
    world = cluster_of(12, **more)
    a, b = world.zone("a"), world.zone("b")
    world.lose(a, b, 0.05)
    world.lose("n3", None, 0.05)
    return world, {
        20: [
            "PodsonarZonePairLoss source_zone=a destination_zone=b",
            "PodsonarNodeLossOut node=n3 zone=c direction=out",
        ]
    }


@covered("ZonePairLoss", "NodeLoss", "PairLoss")
@scenario
def loss_everywhere_is_told_once(**more):
    world = cluster_of(6, **more)
    world.lose(None, None, 0.03)
    return world, {20: ["PodsonarClusterLoss"]}


@scenario
def loss_everywhere_among_three_nodes_is_told_once(**more):
    world = cluster_of(3, **more)
    world.lose(None, None, 0.03)
    return world, {20: ["PodsonarClusterLoss"]}


@scenario
def a_filter_between_all_agents_is_told_once(**more):
    world = cluster_of(9, **more)
    world.lose(None, None, 1, 0)
    return world, {10: ["PodsonarClusterLoss"]}


@scenario
def loss_within_one_zone_is_that_zone(**more):
    world = World({f"n{i}": "a" if i <= 4 else "b" if i <= 8 else "c" for i in range(1, 13)}, **more)
    world.lose(world.zone("a"), world.zone("a"), 0.03)
    return world, {20: ["PodsonarZonePairLoss source_zone=a destination_zone=a"]}


@covered("ClusterLoss")
@scenario
def loss_everywhere_as_told_by_half_of_the_agents_is_not_judged(**more):
    world = cluster_of(6, minutes=25, **more)
    world.lose(None, None, 0.05)
    for i in (1, 2, 3):
        world.unscraped(f"n{i}")
    return world, {25: ["PodsonarAgentMissing"]}


@covered("NodeLossIn")
@scenario
def a_zone_that_loses_what_all_others_send_is_its_zone_pairs(**more):
    world = cluster_of(9, **more)
    world.lose(world.zone("a") + world.zone("c"), world.zone("b"), 0.05)
    return world, {
        20: [
            "PodsonarZonePairLoss source_zone=a destination_zone=b",
            "PodsonarZonePairLoss source_zone=b destination_zone=c",
        ]
    }


@covered("NodeLossOut")
@scenario
def a_zone_that_loses_packets_to_all_others_is_its_zone_pairs(**more):
    world = cluster_of(9, **more)
    for b in ("n2", "n5", "n8"):
        for other in ("n1", "n3", "n4", "n6", "n7", "n9"):
            world.lose(b, other, 0.05)
    return world, {
        20: [
            "PodsonarZonePairLoss source_zone=a destination_zone=b",
            "PodsonarZonePairLoss source_zone=b destination_zone=c",
        ]
    }


@scenario
def loss_everywhere_in_one_zone_is_told_once(**more):
    world = cluster_of(12, zones=("a",), **more)
    world.lose(None, None, 0.03)
    return world, {20: ["PodsonarClusterLoss"]}


@scenario
def loss_everywhere_without_zones_is_told_once(**more):
    world = cluster_of(12, zones=("",), **more)
    world.lose(None, None, 0.03)
    return world, {20: ["PodsonarClusterLoss"]}


@covered("NodeLossOut", "PairLoss")
@scenario
def loss_between_zones_that_ends_leaves_no_smaller_place_behind(**more):
    world = cluster_of(9, minutes=40, **more)
    for i, a in enumerate(("n1", "n4", "n7")):
        for j, b in enumerate(("n2", "n5", "n8")):
            world.lose(a, b, 0.012 + 0.004 * ((i + 2 * j) % 5), 5, 20)
    alert = ["PodsonarZonePairLoss source_zone=a destination_zone=b"]
    return world, {m: alert for m in range(15, 21)} | {m: [] for m in range(31, 41)}, [
        (minute, 'count(ALERTS{alertname!="PodsonarZonePairLoss", alertstate="firing"})', {}) for minute in range(5, 41)
    ]
