"""Round trips that take longer than they did."""

from registry import covered, scenario
from world import cluster_of


def hours(count, minutes=165, **more):
    """Long enough for a past to compare with, so looked at less often."""
    return cluster_of(count, minutes=minutes, step=60, evaluated=180, **more)


@scenario
def latency_between_zones_that_rises_is_one_zone_pair(**more):
    world = hours(9, **more)
    a, b = world.zone("a"), world.zone("b")
    world.slower(a, b, 0.0006, 130)
    return world, {128: [], 136: [], 160: ["PodsonarZonePairLatencyShift source_zone=a destination_zone=b"]}


@covered("ZonePairLatencyShift")
@scenario
def latency_that_rises_with_its_zone_pairs_loss_is_the_loss(**more):
    world = hours(9, **more)
    a, b = world.zone("a"), world.zone("b")
    world.slower(a, b, 0.0006, 130)
    world.lose(a, b, 0.05, 130)
    return world, {160: ["PodsonarZonePairLoss source_zone=a destination_zone=b"]}


@scenario
def latency_of_a_node_that_rises_is_that_node(**more):
    world = hours(6, **more)
    world.slower("n2", None, 0.0006, 130)
    return world, {160: ["PodsonarNodeLatencyShift node=n2 zone=b"]}


@scenario
def latency_of_a_pair_that_rises_is_one_pair(**more):
    world = hours(6, **more)
    world.slower("n1", "n2", 0.0006, 130)
    return world, {160: ["PodsonarPairLatencyShift source=n1 source_zone=a destination=n2 destination_zone=b"]}


@scenario
def latency_that_rises_a_little_is_silent(**more):
    world = hours(6, **more)
    world.slower("n2", None, 0.0001, 130)
    return world, {160: []}


@scenario
def latency_of_a_new_cluster_is_not_judged(**more):
    world = hours(6, minutes=70, **more)
    world.slower("n2", None, 0.0006, 40)
    return world, {70: []}


@scenario
def latency_between_two_of_three_nodes_is_a_pair(**more):
    world = hours(3, **more)
    world.slower("n1", "n2", 0.0006, 130)
    return world, {160: ["PodsonarPairLatencyShift source=n1 source_zone=a destination=n2 destination_zone=b"]}


@scenario
def latency_of_one_of_three_nodes_that_rises_is_that_node(**more):
    world = hours(3, **more)
    world.slower("n2", None, 0.0006, 130)
    return world, {160: ["PodsonarNodeLatencyShift node=n2 zone=b"]}


@covered("NodeLatencyShift", "PairLatencyShift")
@scenario
def latency_of_a_zone_that_rises_is_its_zone_pairs(**more):
    world = hours(9, **more)
    world.slower(world.zone("b"), world.zone("a") + world.zone("c"), 0.0003, 130)
    return world, {
        160: [
            "PodsonarZonePairLatencyShift source_zone=a destination_zone=b",
            "PodsonarZonePairLatencyShift source_zone=b destination_zone=c",
        ]
    }


@covered("NodeLatencyShift")
@scenario
def latency_of_a_node_that_loses_packets_is_its_loss(**more):
    world = hours(6, **more)
    world.slower("n2", None, 0.0006, 130)
    world.lose("n2", None, 0.05, 130)
    return world, {160: ["PodsonarNodeLossOut node=n2 zone=b direction=out"]}


@scenario
def latency_that_rises_everywhere_is_told_once(**more):
    world = hours(6, **more)
    world.slower(None, None, 0.0003, 130)
    return world, {160: ["PodsonarClusterLatencyShift"]}


@covered("ClusterLatencyShift", "ZonePairLatencyShift")
@scenario
def latency_that_rises_with_loss_everywhere_is_the_loss(**more):
    world = hours(6, **more)
    world.slower(None, None, 0.0003, 130)
    world.lose(None, None, 0.05, 130)
    return world, {160: ["PodsonarClusterLoss"]}
