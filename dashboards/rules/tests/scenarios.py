"""What happens in clusters, and exactly which alerts then fire: all of them, with their places, and no other.

Each scenario is a function that returns a `World` and what is expected: minute by minute the firing alerts as text,
`Name label=value ...`. Every scenario is run without and with a label `cluster`. `@covered` names alerts that would be true,
too, and are not told because something wider is.
"""

from world import cluster_of, World

SCENARIOS = {}
COVERED = {}


def scenario(function):
    """Registers a scenario; its name is a claim."""
    SCENARIOS[function.__name__] = function
    return function


def covered(*alerts):
    """Alerts that a wider one covers in this scenario."""
    def register(function):
        COVERED[function.__name__] = [f"Podsonar{alert}" for alert in alerts]
        return function
    return register


# ------------------------------------------------------------------------------------------------ nothing is wrong
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


# ------------------------------------------------------------------------------------------------ nodes
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


# ------------------------------------------------------------------------------------------------ zone pairs
@scenario
def loss_between_two_zones_is_one_zone_pair(**more):
    world = cluster_of(9, **more)
    for a in ("n1", "n4", "n7"):
        for b in ("n2", "n5", "n8"):
            world.lose(a, b, 0.05)
    return world, {20: ["PodsonarZonePairLoss source_zone=a destination_zone=b"]}


@scenario
def a_zone_pair_cut_in_two_is_one_zone_pair(**more):
    world = cluster_of(9, **more)
    for a in ("n1", "n4", "n7"):
        for b in ("n2", "n5", "n8"):
            world.lose(a, b, 1)
            world.lose(b, a, 1)
    return world, {10: ["PodsonarZonePairLoss source_zone=a destination_zone=b"]}


@covered("NodeUnreachable")
@scenario
def a_zone_that_is_off_is_told_by_each_other_zone(**more):
    world = cluster_of(9, **more)
    for b in ("n2", "n5", "n8"):
        world.off(b)
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
    for a in ("n1", "n4", "n7", "n10"):
        for b in ("n2", "n5", "n8", "n11"):
            world.lose(a, b, 0.05)
    world.lose("n3", None, 0.05)
    return world, {
        20: [
            "PodsonarZonePairLoss source_zone=a destination_zone=b",
            "PodsonarNodeLossOut node=n3 zone=c direction=out",
        ]
    }


# ------------------------------------------------------------------------------------------------ pairs
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
    return world, {10: ["PodsonarPairLoss source=n2 source_zone=b destination=n3 destination_zone=c"]}


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


# ------------------------------------------------------------------------------------------------ agents
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


# ------------------------------------------------------------------------------------------------ name servers
def asked(world, server, share):
    for node in world.nodes:
        world.dns[node, server] = share


@scenario
def name_servers_that_answer_are_silent(**more):
    world = cluster_of(6, **more)
    asked(world, "10.96.0.10", lambda m: 0.01)
    return world, {20: []}


@scenario
def a_name_server_that_fails_everywhere_is_one_server(**more):
    world = cluster_of(6, **more)
    asked(world, "10.96.0.10", lambda m: 0.5 if m > 5 else 0)
    asked(world, "10.96.0.11", lambda m: 0)
    return world, {20: ["PodsonarDnsServerFailing server=10.96.0.10"]}


@scenario
def a_name_server_of_a_lone_node_is_told(**more):
    world = World({"n1": ""}, **more)
    asked(world, "192.0.2.53", lambda m: 1 if m > 5 else 0)
    return world, {20: ["PodsonarDnsServerFailing server=192.0.2.53"]}


@scenario
def name_servers_that_fail_one_node_are_that_nodes(**more):
    world = cluster_of(6, **more)
    for server in ("10.96.0.10", "10.96.0.11"):
        asked(world, server, lambda m: 0)
        world.dns["n2", server] = lambda m: 0.5 if m > 5 else 0
    return world, {20: ["PodsonarDnsNodeFailing node=n2 zone=b"]}


@covered("DnsNodeFailing")
@scenario
def names_that_fail_a_node_which_loses_packets_are_its_loss(**more):
    world = cluster_of(6, **more)
    asked(world, "10.96.0.10", lambda m: 0)
    world.dns["n2", "10.96.0.10"] = lambda m: 0.3 if m > 5 else 0
    world.lose("n2", None, 0.3)
    return world, {20: ["PodsonarNodeLossOut node=n2 zone=b direction=out"]}


def dns_times(world, server, seconds):
    """Answers take this long, in classic buckets."""
    for node, zone in world.nodes.items():
        who = {"source": node, "source_zone": zone, "server": server}
        for le in ("0.0005", "0.005", "0.05", "0.1", "0.5", "2.5", "+Inf"):
            world.says(node, "podsonar_dns_duration_seconds_bucket",
                       lambda s, le=le: s if float(le) >= seconds else 0, 0, le=le, **who)


@scenario
def a_slow_name_server_is_told(**more):
    world = cluster_of(3, minutes=30, **more)
    for server, seconds in (("10.96.0.10", 0.3), ("10.96.0.11", 0.003)):
        asked(world, server, lambda m: 0)
        dns_times(world, server, seconds)
    return world, {30: ["PodsonarDnsServerSlow server=10.96.0.10"]}


@covered("DnsServerSlow")
@scenario
def a_slow_name_server_that_fails_is_failing(**more):
    world = cluster_of(3, minutes=30, **more)
    asked(world, "10.96.0.10", lambda m: 0.5)
    dns_times(world, "10.96.0.10", 0.3)
    return world, {30: ["PodsonarDnsServerFailing server=10.96.0.10"]}


@scenario
def wrong_answers_are_told(**more):
    world = cluster_of(3, minutes=30, **more)
    for node, zone in world.nodes.items():
        who = {"source": node, "source_zone": zone}
        for server in ("10.96.0.10", "10.96.0.11", "10.96.0.12"):
            wrong = server.endswith("10")
            world.says(node, "podsonar_dns_queries_total", lambda s: s / 2, 0, name="pod", server=server,
                       result="mismatch" if wrong else "noerror", **who)
            bare = "noerror" if server.endswith("11") else "nxdomain"
            world.says(node, "podsonar_dns_queries_total", lambda s: s / 60, 0, name="bare_pod", server=server,
                       result=bare, **who)
    return world, {30: [f"PodsonarDnsWrongAnswer server=10.96.0.1{i}" for i in (0, 1)]}


@covered("DnsWrongAnswer")
@scenario
def wrong_answers_of_a_server_that_fails_are_its_failing(**more):
    world = cluster_of(3, minutes=30, **more)
    asked(world, "10.96.0.10", lambda m: 0.9)
    for node, zone in world.nodes.items():
        world.says(node, "podsonar_dns_queries_total", lambda s: s / 2, 0, name="pod", server="10.96.0.10",
                   result="mismatch", source=node, source_zone=zone)
    return world, {30: ["PodsonarDnsServerFailing server=10.96.0.10"]}


# ------------------------------------------------------------------------------------------------ pods
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
    for a in ("n1", "n4", "n7"):
        for b in ("n2", "n5", "n8"):
            world.lose(a, b, 1)
            world.lose(b, a, 1)
    pod(world, ["n1", "n4", "n7"])
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


# ------------------------------------------------------------------------------------------------ mtu and flows
def fault(world, metric, source, destination, value=1):
    for a in [source] if source else world.nodes:
        for b in [destination] if destination else world.nodes:
            if a != b:
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
    for a in ("n1", "n4", "n7"):
        for b in ("n2", "n5", "n8"):
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


# ------------------------------------------------------------------------------------------------ latency
@scenario
def latency_between_zones_that_rises_is_one_zone_pair(**more):
    world = cluster_of(9, minutes=165, step=60, evaluated=180, **more)
    for a in ("n1", "n4", "n7"):
        for b in ("n2", "n5", "n8"):
            world.slower(a, b, 0.0006, 130)
    return world, {128: [], 136: [], 160: ["PodsonarZonePairLatencyShift source_zone=a destination_zone=b"]}


@covered("ZonePairLatencyShift")
@scenario
def latency_that_rises_with_its_zone_pairs_loss_is_the_loss(**more):
    world = cluster_of(9, minutes=165, step=60, evaluated=180, **more)
    for a in ("n1", "n4", "n7"):
        for b in ("n2", "n5", "n8"):
            world.slower(a, b, 0.0006, 130)
            world.lose(a, b, 0.05, 130)
    return world, {160: ["PodsonarZonePairLoss source_zone=a destination_zone=b"]}


@scenario
def latency_of_a_node_that_rises_is_that_node(**more):
    world = cluster_of(6, minutes=165, step=60, evaluated=180, **more)
    world.slower("n2", None, 0.0006, 130)
    return world, {160: ["PodsonarNodeLatencyShift node=n2 zone=b"]}


@scenario
def latency_of_a_pair_that_rises_is_one_pair(**more):
    world = cluster_of(6, minutes=165, step=60, evaluated=180, **more)
    world.slower("n1", "n2", 0.0006, 130)
    return world, {160: ["PodsonarPairLatencyShift source=n1 source_zone=a destination=n2 destination_zone=b"]}


@scenario
def latency_that_rises_a_little_is_silent(**more):
    world = cluster_of(6, minutes=165, step=60, evaluated=180, **more)
    world.slower("n2", None, 0.0001, 130)
    return world, {160: []}


@scenario
def latency_of_a_new_cluster_is_not_judged(**more):
    world = cluster_of(6, minutes=70, step=60, evaluated=180, **more)
    world.slower("n2", None, 0.0006, 40)
    return world, {70: []}


@scenario
def latency_between_two_of_three_nodes_is_a_pair(**more):
    world = cluster_of(3, minutes=165, step=60, evaluated=180, **more)
    world.slower("n1", "n2", 0.0006, 130)
    return world, {160: ["PodsonarPairLatencyShift source=n1 source_zone=a destination=n2 destination_zone=b"]}


@scenario
def latency_of_one_of_three_nodes_that_rises_is_that_node(**more):
    world = cluster_of(3, minutes=165, step=60, evaluated=180, **more)
    world.slower("n2", None, 0.0006, 130)
    return world, {160: ["PodsonarNodeLatencyShift node=n2 zone=b"]}


# ------------------------------------------------------------------------------------ several clusters, families, scrapes
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
    return world, {20: [], 12: ["PodsonarNodeLoss node=n2 zone=b direction=both_or_unknown"]}


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


# ------------------------------------------------------------------------------------------------ recorded for people
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


# ------------------------------------------------------------------------------------------------ the whole cluster
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
    for i in (1, 2, 3, 4):
        for j in (1, 2, 3, 4):
            if i != j:
                world.lose(f"n{i}", f"n{j}", 0.03)
    return world, {20: ["PodsonarZonePairLoss source_zone=a destination_zone=a"]}


@scenario
def latency_that_rises_everywhere_is_told_once(**more):
    world = cluster_of(6, minutes=165, step=60, evaluated=180, **more)
    world.slower(None, None, 0.0003, 130)
    return world, {160: ["PodsonarClusterLatencyShift"]}


@covered("ClusterLatencyShift", "ZonePairLatencyShift")
@scenario
def latency_that_rises_with_loss_everywhere_is_the_loss(**more):
    world = cluster_of(6, minutes=165, step=60, evaluated=180, **more)
    world.slower(None, None, 0.0003, 130)
    world.lose(None, None, 0.05, 130)
    return world, {160: ["PodsonarClusterLoss"]}


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


@scenario
def two_nodes_of_two_that_are_cut_are_a_pair(**more):
    world = cluster_of(2, **more)
    world.lose(None, None, 1)
    return world, {10: ["PodsonarPairLoss source=n1 source_zone=a destination=n2 destination_zone=b"]}


# ------------------------------------------------------------------------------------------------ covered by something wider
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


@covered("DnsServerFailing", "DnsNodeFailing")
@scenario
def name_servers_that_fail_sick_agents_are_not_accused(**more):
    world = cluster_of(6, minutes=25, **more)
    asked(world, "10.96.0.10", lambda m: 0.5)
    for node in world.nodes:
        world.sick(node, "stalled", 0)
    return world, {25: ["PodsonarAgentSick"]}


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
    for b in ("n2", "n5", "n8"):
        for other in ("n1", "n3", "n4", "n6", "n7", "n9"):
            world.lose(other, b, 0.05)
    return world, {
        20: [
            "PodsonarZonePairLoss source_zone=a destination_zone=b",
            "PodsonarZonePairLoss source_zone=b destination_zone=c",
        ]
    }


@covered("NodeLatencyShift", "PairLatencyShift")
@scenario
def latency_of_a_zone_that_rises_is_its_zone_pairs(**more):
    world = cluster_of(9, minutes=165, step=60, evaluated=180, **more)
    for b in ("n2", "n5", "n8"):
        for other in ("n1", "n3", "n4", "n6", "n7", "n9"):
            world.slower(b, other, 0.0003, 130)
    return world, {
        160: [
            "PodsonarZonePairLatencyShift source_zone=a destination_zone=b",
            "PodsonarZonePairLatencyShift source_zone=b destination_zone=c",
        ]
    }


@covered("NodeLatencyShift")
@scenario
def latency_of_a_node_that_loses_packets_is_its_loss(**more):
    world = cluster_of(6, minutes=165, step=60, evaluated=180, **more)
    world.slower("n2", None, 0.0006, 130)
    world.lose("n2", None, 0.05, 130)
    return world, {160: ["PodsonarNodeLossOut node=n2 zone=b direction=out"]}


@scenario
def nodes_without_room_for_series_are_no_node(**more):
    world = cluster_of(4, minutes=25, **more)
    for node, zone in world.nodes.items():
        path = {"protocol": "icmp", "family": "4", "kind": "agent", "source": node, "source_zone": zone, "destination": "other"}
        world.says(node, "podsonar_probes_total", lambda s: 9 * s, 0, result="reply", **path)
        world.says(node, "podsonar_probes_total", lambda s: s, 0, result="lost", **path)
        world.says(node, "podsonar_rtt_floor_seconds", 0.001, 0, **path)
    return world, {25: []}
