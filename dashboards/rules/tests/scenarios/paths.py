"""Large packets and flows that vanish."""

from registry import covered, scenario
from world import cluster_of


def fault(world, metric, source, destination, value=1):
    for a, b in world.pairs(source, destination):
        world.says(a, metric, value, family="4", **world.path(a, b))


MTU, FLOW = "podsonar_mtu_blackholed", "podsonar_blackholed_flows"


@scenario
def a_black_hole_to_a_node_is_that_node(**more):
    world = cluster_of(6, **more)
    fault(world, MTU, None, "n2")
    return world, {6: [], 20: ["PodsonarMtuBlackHole destination=n2 destination_zone=b"]}


@scenario
def a_black_hole_from_a_node_is_that_node(**more):
    world = cluster_of(6, **more)
    fault(world, MTU, "n2", None)
    return world, {20: ["PodsonarMtuBlackHole source=n2 source_zone=b"]}


@scenario
def a_black_hole_to_and_from_a_node_is_told_once(**more):
    world = cluster_of(6, **more)
    fault(world, MTU, "n2", None)
    fault(world, MTU, None, "n2")
    return world, {20: ["PodsonarMtuBlackHole destination=n2 destination_zone=b"]}


@scenario
def a_black_hole_between_two_nodes_is_a_pair(**more):
    world = cluster_of(6, **more)
    fault(world, MTU, "n2", "n1")
    fault(world, MTU, "n1", "n2")
    return world, {20: ["PodsonarMtuBlackHole source=n1 source_zone=a destination=n2 destination_zone=b"]}


@scenario
def a_black_hole_between_zones_is_a_zone_pair(**more):
    world = cluster_of(9, **more)
    a, b = world.zone("a"), world.zone("b")
    fault(world, MTU, a, b)
    fault(world, MTU, b, a)
    return world, {20: ["PodsonarMtuBlackHole source_zone=a destination_zone=b"]}


@scenario
def a_black_hole_to_what_the_user_wrote_is_told_once(**more):
    world = cluster_of(6, **more)
    for node, zone in world.nodes.items():
        world.says(node, MTU, family="4", source=node, source_zone=zone, destination="192.0.2.1")
    return world, {20: ["PodsonarMtuBlackHole destination=192.0.2.1"]}


@scenario
def dead_flows_between_two_nodes_are_a_pair(**more):
    world = cluster_of(6, **more)
    fault(world, FLOW, "n1", "n2", 8)
    return world, {6: [], 20: ["PodsonarBlackholedFlow source=n1 source_zone=a destination=n2 destination_zone=b"]}


@scenario
def dead_flows_from_a_node_are_that_node(**more):
    world = cluster_of(6, **more)
    fault(world, FLOW, "n1", None, 8)
    return world, {20: ["PodsonarBlackholedFlow source=n1 source_zone=a"]}


@covered("BlackholedFlow")
@scenario
def dead_flows_where_large_packets_vanish_are_the_black_hole(**more):
    world = cluster_of(6, **more)
    fault(world, MTU, "n1", "n2")
    fault(world, FLOW, "n1", "n2")
    return world, {20: ["PodsonarMtuBlackHole source=n1 source_zone=a destination=n2 destination_zone=b"]}


@covered("PairLoss")
@scenario
def loss_where_flows_are_dead_is_the_flow(**more):
    world = cluster_of(6, **more)
    fault(world, FLOW, "n1", "n2", 8)
    fault(world, FLOW, "n2", "n1", 8)
    world.lose("n1", "n2", 0.3)
    return world, {20: ["PodsonarBlackholedFlow source=n1 source_zone=a destination=n2 destination_zone=b"]}


@scenario
def a_black_hole_everywhere_is_told_once(**more):
    world = cluster_of(6, **more)
    fault(world, MTU, None, None)
    return world, {20: ["PodsonarMtuBlackHole"]}


@scenario
def dead_flows_everywhere_are_told_once(**more):
    world = cluster_of(3, **more)
    fault(world, FLOW, None, None)
    return world, {20: ["PodsonarBlackholedFlow"]}
