"""Pods whose node is reached."""

from registry import covered, scenario
from world import World, cluster_of


def pod(world, observers, name="web-1", node="n2", state="silent", start=5, end=1e9):
    for observer in observers:
        path = world.path(observer, node)
        world.says(observer, "podsonar_unhealthy_target", 1, start, end, state=state, protocol="icmp", family="4",
                   destination_namespace="shop", destination_workload="Deployment/web", destination_pod=name,
                   destination_ip="10.1.0.9", **path)


POD = "node=n2 zone=b namespace=shop workload=Deployment/web pod=web-1"


@scenario
def a_pod_that_several_agents_find_silent_is_unreachable(**more):
    world = cluster_of(6, **more)
    pod(world, ["n1", "n3", "n2"])
    return world, {6: [], 20: [f"PodsonarPodUnreachable {POD}"]}


@scenario
def a_pod_that_one_agent_finds_silent_is_not_told(**more):
    world = cluster_of(6, **more)
    pod(world, ["n1"])
    return world, {20: []}


@scenario
def a_pod_of_a_lone_node_is_told(**more):
    world = World({"n2": "b"}, **more)
    pod(world, ["n2"])
    return world, {20: [f"PodsonarPodUnreachable {POD}"]}


@covered("NodePodsUnreachable", "PodUnreachable")
@scenario
def pods_of_a_node_that_is_off_are_the_nodes(**more):
    world = cluster_of(6, **more)
    world.off("n2")
    for i in range(7):
        pod(world, ["n1", "n3", "n4"], f"web-{i}")
    return world, {10: ["PodsonarNodeUnreachable node=n2 zone=b"]}


@scenario
def pods_beyond_a_dead_zone_pair_are_the_zone_pairs(**more):
    world = cluster_of(9, **more)
    a, b = world.zone("a"), world.zone("b")
    world.lose(a, b, 1)
    world.lose(b, a, 1)
    pod(world, a)
    return world, {10: ["PodsonarZonePairLoss source_zone=a destination_zone=b"]}


@scenario
def a_pod_that_no_other_node_ever_reached_is_told(**more):
    world = cluster_of(6, **more)
    pod(world, ["n1", "n3"], state="never_reachable")
    return world, {20: [f"PodsonarPodNeverReachable {POD}"]}


@scenario
def a_pod_that_one_other_never_reached_is_not_told(**more):
    world = cluster_of(6, **more)
    pod(world, ["n1"], state="never_reachable")
    return world, {20: []}


@covered("PodNeverReachable")
@scenario
def a_pod_that_some_reached_once_and_some_never_is_told_once(**more):
    world = cluster_of(6, **more)
    pod(world, ["n1", "n3"], state="never_reachable")
    pod(world, ["n4", "n5"])
    return world, {20: [f"PodsonarPodUnreachable {POD}"]}


@covered("PodUnreachable", "PodNeverReachable")
@scenario
def many_pods_of_a_node_are_told_once(**more):
    world = cluster_of(6, **more)
    for i in range(7):
        pod(world, ["n1", "n3", "n4"], f"web-{i}", state="silent" if i < 4 else "never_reachable")
    return world, {20: ["PodsonarNodePodsUnreachable node=n2 zone=b"]}
