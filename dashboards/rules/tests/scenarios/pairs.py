"""Two nodes that lose packets between them."""

from registry import scenario
from world import cluster_of


@scenario
def loss_between_two_nodes_is_one_pair(**more):
    world = cluster_of(6, **more)
    world.lose("n1", "n2", 0.05)
    return world, {20: ["PodsonarPairLoss source=n1 source_zone=a destination=n2 destination_zone=b"]}


@scenario
def two_nodes_cut_from_one_another_are_one_pair(**more):
    world = cluster_of(6, **more)
    world.lose("n3", "n2", 1)
    world.lose("n2", "n3", 1)
    return world, {15: ["PodsonarPairLoss source=n2 source_zone=b destination=n3 destination_zone=c"]}


@scenario
def five_losses_in_ten_minutes_are_no_pair(**more):
    world = cluster_of(6, **more)
    world.lose("n1", "n2", 0.008)
    return world, {m: [] for m in range(5, 21)}


@scenario
def one_burst_of_a_pair_is_no_pair(**more):
    world = cluster_of(6, **more)
    world.lose("n1", "n2", 1, 5, 6)
    return world, {m: [] for m in range(5, 21)}


@scenario
def of_two_nodes_a_lossy_pair_is_a_pair(**more):
    world = cluster_of(2, **more)
    world.lose("n1", "n2", 0.1)
    return world, {20: ["PodsonarPairLoss source=n1 source_zone=a destination=n2 destination_zone=b"]}


@scenario
def two_nodes_of_two_that_are_cut_are_a_pair(**more):
    world = cluster_of(2, **more)
    world.lose(None, None, 1)
    return world, {15: ["PodsonarPairLoss source=n1 source_zone=a destination=n2 destination_zone=b"]}
