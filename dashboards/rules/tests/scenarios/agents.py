"""What is wrong with agents themselves, and where too little is heard."""

from registry import covered, scenario
from world import cluster_of


@scenario
def an_agent_that_is_not_scraped_is_missing(**more):
    world = cluster_of(6, minutes=25, **more)
    world.unscraped("n2")
    return world, {10: [], 25: ["PodsonarAgentMissing node=n2 zone=b"]}


@covered("AgentMissing")
@scenario
def a_zone_that_is_not_scraped_is_one_insufficiency(**more):
    world = cluster_of(9, minutes=25, **more)
    for node in ("n2", "n5", "n8"):
        world.unscraped(node)
    return world, {25: ["PodsonarDataInsufficient zone=b"]}


@covered("DataInsufficient", "AgentMissing")
@scenario
def most_agents_missing_are_told_once(**more):
    world = cluster_of(6, minutes=25, **more)
    for i in (1, 2, 3, 4):
        world.unscraped(f"n{i}")
    return world, {25: ["PodsonarAgentMissing"]}


@scenario
def all_agents_gone_is_told_once(**more):
    world = cluster_of(3, **more)
    for node in world.nodes:
        world.unscraped(node)
    return world, {9: [], 15: ["PodsonarAbsent"]}


@scenario
def nothing_scraped_ever_is_told(**more):
    world = cluster_of(1, **more)
    world.unscraped("n1", 0)
    return world, {3: [], 10: ["PodsonarAbsent cluster="]}


@scenario
def with_half_of_the_agents_unheard_no_node_is_accused(**more):
    world = cluster_of(6, minutes=25, **more)
    for i in (1, 2, 3):
        world.unscraped(f"n{i}")
    world.lose(None, "n6", 0.05)
    return world, {25: ["PodsonarAgentMissing"]}


@covered("MtuBlackHole")
@scenario
def a_sick_agent_is_told_and_accuses_nobody(**more):
    world = cluster_of(6, minutes=25, **more)
    world.sick("n2")
    for peer in world.nodes:
        if peer != "n2":
            world.says("n2", "podsonar_mtu_blackholed", **world.path("n2", peer), family="4")
    return world, {25: ["PodsonarAgentSick node=n2 zone=b"]}


@scenario
def a_stall_now_and_then_is_no_sickness(**more):
    world = cluster_of(6, minutes=25, **more)
    for minute in (5, 15):
        world.sick("n2", "stalled", minute, minute + 0.5)
    return world, {m: [] for m in range(4, 26)}


@scenario
def all_agents_sick_is_told_once(**more):
    world = cluster_of(6, minutes=25, **more)
    for node in world.nodes:
        world.sick(node, "throttled")
    return world, {25: ["PodsonarAgentSick"]}


@scenario
def an_agent_that_cannot_send_does_not_probe(**more):
    world = cluster_of(6, minutes=25, **more)
    world.says("n2", "podsonar_probes_void_total", lambda s: 5 * s, protocol="icmp", family="4", kind="node",
               source="n2", reason="not_sent")
    return world, {10: [], 25: ["PodsonarAgentNotProbing node=n2 zone=b"]}


@scenario
def an_agent_that_knows_no_other_does_not_probe(**more):
    nodes = [f"n{i + 1}" for i in range(6)]
    world = cluster_of(6, minutes=25, peers={a: [] if a == "n2" else [b for b in nodes if b != a] for a in nodes}, **more)
    return world, {5: [], 25: ["PodsonarAgentNotProbing node=n2 zone=b"]}


@scenario
def full_buffers_are_told(**more):
    world = cluster_of(6, minutes=25, **more)
    world.says("n2", "podsonar_socket_drops_total", lambda s: s / 10, protocol="icmp", family="4")
    return world, {25: ["PodsonarLocalDrops node=n2 zone=b"]}


@covered("LocalDrops")
@scenario
def drops_of_a_sick_agent_are_its_sickness(**more):
    world = cluster_of(6, minutes=25, **more)
    world.says("n2", "podsonar_socket_drops_total", lambda s: s / 10, protocol="icmp", family="4")
    world.sick("n2", "drops")
    return world, {25: ["PodsonarAgentSick node=n2 zone=b"]}


@scenario
def a_host_without_kernel_stamps_is_told(**more):
    world = cluster_of(6, minutes=30, **more)
    world.says("n2", "podsonar_stamp_source_total", lambda s: s, protocol="icmp", family="4", direction="tx", stamp="user")
    return world, {30: ["PodsonarStampFallback node=n2 zone=b"]}


@scenario
def hosts_without_kernel_stamps_are_told_once(**more):
    world = cluster_of(6, minutes=30, **more)
    for node in world.nodes:
        world.says(node, "podsonar_stamp_source_total", lambda s: s, protocol="icmp", family="4", direction="tx", stamp="user")
    return world, {30: ["PodsonarStampFallback"]}


@covered("StampFallback")
@scenario
def stamps_of_a_sick_agent_are_its_sickness(**more):
    world = cluster_of(6, minutes=30, **more)
    world.says("n2", "podsonar_stamp_source_total", lambda s: s, protocol="icmp", family="4", direction="tx", stamp="user")
    world.sick("n2", "stalled")
    return world, {30: ["PodsonarAgentSick node=n2 zone=b"]}


@scenario
def a_clock_that_is_set_again_and_again_is_told(**more):
    world = cluster_of(6, minutes=30, **more)
    world.says("n2", "podsonar_clock_jumps_total", lambda s: s // 240)
    world.says("n3", "podsonar_clock_jumps_total", lambda s: min(s // 240, 1))
    return world, {30: ["PodsonarClockUnsteady node=n2 zone=b"]}


@covered("ClockUnsteady")
@scenario
def clock_steps_of_a_sick_agent_are_its_sickness(**more):
    world = cluster_of(6, minutes=30, **more)
    world.says("n2", "podsonar_clock_jumps_total", lambda s: s // 240)
    world.sick("n2", "clock")
    return world, {30: ["PodsonarAgentSick node=n2 zone=b"]}


@scenario
def a_watch_that_is_old_is_told(**more):
    world = cluster_of(6, minutes=25, **more)
    world.says("n2", "podsonar_watch_age_seconds", lambda s: s, watch="peers")
    world.says("n3", "podsonar_watch_age_seconds", lambda s: s % 100, watch="peers")
    return world, {8: [], 25: ["PodsonarWatchStale node=n2 zone=b"]}


@scenario
def an_api_server_that_is_down_is_told_once(**more):
    world = cluster_of(6, minutes=25, **more)
    for node in world.nodes:
        world.says(node, "podsonar_watch_age_seconds", lambda s: s, watch="peers")
    return world, {25: ["PodsonarWatchStale"]}


@covered("WatchStale")
@scenario
def the_watch_of_a_node_that_is_cut_off_is_the_nodes_fault(**more):
    world = cluster_of(6, minutes=25, **more)
    world.lose("n4", None, 1)
    world.lose(None, "n4", 1)
    world.says("n4", "podsonar_watch_age_seconds", lambda s: s, watch="peers")
    return world, {25: ["PodsonarNodeUnreachable node=n4 zone=a"]}


@scenario
def lists_that_are_refused_are_told(**more):
    world = cluster_of(6, minutes=25, **more)
    world.says("n2", "podsonar_exchange_total", lambda s: s / 15, source="n2", source_zone="b", destination_zone="c",
               result="refused")
    world.says("n3", "podsonar_exchange_total", lambda s: s / 300, source="n3", source_zone="c", destination_zone="b",
               result="refused")
    return world, {25: ["PodsonarExchangeRefused node=n2 zone=b"]}


@covered("ExchangeRefused")
@scenario
def lists_refused_everywhere_are_told_once(**more):
    world = cluster_of(6, minutes=25, **more)
    for node, zone in world.nodes.items():
        world.says(node, "podsonar_exchange_total", lambda s: s / 15, source=node, source_zone=zone, destination_zone="x",
                   result="other_version")
    return world, {25: ["PodsonarExchangeRefused"]}


@scenario
def a_wrong_configuration_is_told(**more):
    world = cluster_of(6, **more)
    world.says("n2", "podsonar_config_last_reload_successful", 0)
    return world, {4: [], 20: ["PodsonarConfigRejected node=n2 zone=b"]}


@covered("AgentSick")
@scenario
def the_agents_of_a_zone_that_are_sick_are_one_insufficiency(**more):
    world = cluster_of(6, minutes=25, **more)
    for node in ("n2", "n5"):
        world.sick(node)
    return world, {25: ["PodsonarDataInsufficient zone=b"]}


@covered("AgentNotProbing")
@scenario
def a_sick_agent_that_does_not_send_is_sick(**more):
    world = cluster_of(6, minutes=25, **more)
    world.says("n2", "podsonar_probes_void_total", lambda s: 5 * s, protocol="icmp", family="4", kind="node",
               source="n2", reason="skipped")
    world.sick("n2", "lag")
    return world, {25: ["PodsonarAgentSick node=n2 zone=b"]}


@covered("ConfigRejected")
@scenario
def a_configuration_that_is_wrong_everywhere_is_told_once(**more):
    world = cluster_of(6, **more)
    for node in world.nodes:
        world.says(node, "podsonar_config_last_reload_successful", 0)
    return world, {20: ["PodsonarConfigRejected"]}
