"""Nothing is wrong, or nothing that lasts: silence."""

from registry import scenario
from world import World, cluster_of


@scenario
def a_healthy_cluster_is_silent(**more):
    return cluster_of(6, **more), {3: [], 20: []}


@scenario
def a_lone_node_is_silent(**more):
    return World({"n1": ""}, **more), {3: [], 20: []}


@scenario
def two_nodes_without_zones_are_silent(**more):
    return cluster_of(2, zones=("",), **more), {20: []}


@scenario
def a_rollout_is_silent(**more):
    world = cluster_of(6, **more)
    world.pods = True
    for i, node in enumerate(world.nodes):
        world.unscraped(node, 5 + i, 6 + i)
        world.restart(node, 6 + i)
    return world, {m: [] for m in range(4, 21)}


@scenario
def agents_that_restart_in_place_are_silent(**more):
    world = cluster_of(3, **more)
    for node in world.nodes:
        world.restart(node, 8)
    return world, {m: [] for m in range(7, 20)}


@scenario
def a_node_that_is_drained_and_removed_is_silent(**more):
    world = cluster_of(4, **more)
    world.gone("n2")
    return world, {m: [] for m in range(5, 21)}


@scenario
def most_nodes_removed_at_once_are_silent(**more):
    world = cluster_of(9, **more)
    for i in range(3, 10):
        world.gone(f"n{i}")
    return world, {m: [] for m in range(5, 21)}


@scenario
def one_short_outage_of_a_node_is_silent(**more):
    world = cluster_of(6, **more)
    world.off("n2", 5, 6)
    world.restart("n2", 6)
    return world, {m: [] for m in range(5, 21)}


@scenario
def a_little_loss_everywhere_is_silent(**more):
    world = cluster_of(6, **more)
    world.lose(None, None, 0.0005)
    return world, {20: []}


@scenario
def a_missed_scrape_now_and_then_is_silent(**more):
    world = cluster_of(6, **more)
    for minute, node in ((5, "n1"), (6, "n2"), (7, "n3"), (9, "n1"), (12, "n4")):
        world.unscraped(node, minute, minute + 0.5)
    return world, {m: [] for m in range(4, 21)}


@scenario
def a_gap_of_prometheus_itself_is_silent(**more):
    world = cluster_of(6, **more)
    for node in world.nodes:
        world.unscraped(node, 5, 9)
    return world, {m: [] for m in range(4, 21)}


@scenario
def two_short_outages_of_a_zone_are_silent(**more):
    world = cluster_of(9, **more)
    for minute in (5, 9):
        world.lose(world.zone("b"), None, 0.95, minute, minute + 0.5)
    return world, {m: [] for m in range(4, 21)}
