"""Nodes that are off, cut off, or lose packets."""

from registry import covered, scenario
from world import World, cluster_of


@scenario
def a_node_that_is_powered_off_is_unreachable(**more):
    world = cluster_of(6, **more)
    world.off("n2")
    return world, {6: [], 10: ["PodsonarNodeUnreachable node=n2 zone=b"], 20: ["PodsonarNodeUnreachable node=n2 zone=b"]}


@scenario
def a_node_that_comes_back_is_silent_again(**more):
    world = cluster_of(6, minutes=25, **more)
    world.off("n2", 5, 12)
    world.restart("n2", 12)
    return world, {10: ["PodsonarNodeUnreachable node=n2 zone=b"], 14: [], 16: [], 20: [], 25: []}


@scenario
def of_three_nodes_the_one_that_is_off_is_named(**more):
    world = cluster_of(3, **more)
    world.off("n3")
    return world, {10: ["PodsonarNodeUnreachable node=n3 zone=c"]}


@scenario
def of_three_nodes_without_zones_the_one_that_is_off_is_named(**more):
    world = cluster_of(3, zones=("",), **more)
    world.off("n3")
    return world, {10: ["PodsonarNodeUnreachable node=n3"]}


@scenario
def of_two_nodes_the_one_that_is_left_says_what_it_knows(**more):
    world = cluster_of(2, **more)
    world.off("n2")
    return world, {10: ["PodsonarNodeIsolated node=n1 zone=a"]}


@scenario
def half_of_six_nodes_off_are_three_unreachable_nodes(**more):
    world = cluster_of(6, zones=("",), **more)
    for node in ("n1", "n2", "n3"):
        world.off(node)
    return world, {10: [f"PodsonarNodeUnreachable node=n{i}" for i in (1, 2, 3)]}


@scenario
def a_node_that_reaches_nobody_accuses_nobody(**more):
    # Prometheus runs on n1, and n1 is cut off: nothing else is scraped.
    world = cluster_of(6, **more)
    for i in range(2, 7):
        world.off(f"n{i}")
    return world, {10: ["PodsonarNodeIsolated node=n1 zone=a"]}


@covered("NodeIsolated", "PairLoss")
@scenario
def a_node_that_is_cut_off_and_still_scraped_is_unreachable(**more):
    world = cluster_of(6, **more)
    world.lose("n4", None, 1)
    world.lose(None, "n4", 1)
    return world, {10: ["PodsonarNodeUnreachable node=n4 zone=a"]}


@scenario
def a_node_that_loses_what_it_sends_is_told_so(**more):
    world = cluster_of(6, **more)
    world.lose("n2", None, 0.05)
    return world, {20: ["PodsonarNodeLossOut node=n2 zone=b direction=out"]}


@scenario
def a_node_that_loses_what_it_receives_is_told_so(**more):
    world = cluster_of(6, **more)
    world.lose(None, "n2", 0.05)
    return world, {20: ["PodsonarNodeLossIn node=n2 zone=b direction=in"]}


@scenario
def a_node_that_loses_both_ways_is_told_once(**more):
    world = cluster_of(6, **more)
    world.lose(None, "n2", 0.05)
    world.lose("n2", None, 0.05)
    return world, {20: ["PodsonarNodeLoss node=n2 zone=b direction=both_or_unknown"]}


@scenario
def of_three_nodes_the_one_that_loses_is_named(**more):
    world = cluster_of(3, **more)
    world.lose("n1", None, 0.1)
    return world, {20: ["PodsonarNodeLossOut node=n1 zone=a direction=out"]}


@scenario
def one_of_fifty_nodes_that_loses_is_named(**more):
    names = [f"n{i + 1}" for i in range(50)]
    ring = {n: [names[(i + d) % 50] for d in (1, 2, 3, 7, -1, -2, -3, -7)] for i, n in enumerate(names)}
    world = cluster_of(50, peers=ring, **more)
    world.lose("n9", None, 0.02)
    return world, {20: ["PodsonarNodeLossOut node=n9 zone=c direction=out"]}


@scenario
def one_of_fifty_nodes_that_is_off_is_named(**more):
    names = [f"n{i + 1}" for i in range(50)]
    ring = {n: [names[(i + d) % 50] for d in (1, 2, 3, 7, -1, -2, -3, -7)] for i, n in enumerate(names)}
    world = cluster_of(50, peers=ring, **more)
    world.off("n9")
    return world, {10: ["PodsonarNodeUnreachable node=n9 zone=c"]}


@scenario
def a_rack_of_one_zone_that_is_off_is_its_nodes(**more):
    world = World({f"n{i}": "a" if i <= 10 else "b" for i in range(1, 13)}, **more)
    for i in (1, 2, 3):
        world.off(f"n{i}")
    return world, {10: [f"PodsonarNodeUnreachable node=n{i} zone=a" for i in (1, 2, 3)]}


@scenario
def a_node_all_of_whose_sending_is_lost_is_unreachable_and_says_so(**more):
    world = cluster_of(6, **more)
    world.lose("n2", None, 1)
    return world, {10: ["PodsonarNodeUnreachable node=n2 zone=b"]}


@scenario
def a_node_that_receives_nothing_is_unreachable_and_says_so(**more):
    world = cluster_of(6, **more)
    world.lose(None, "n2", 1)
    return world, {10: ["PodsonarNodeUnreachable node=n2 zone=b"]}


@scenario
def a_node_that_is_off_and_then_removed_is_silent_again(**more):
    world = cluster_of(6, **more)
    world.off("n2", 5, 12)
    world.gone("n2", 12)
    return world, {10: ["PodsonarNodeUnreachable node=n2 zone=b"]} | {m: [] for m in range(15, 21)}
