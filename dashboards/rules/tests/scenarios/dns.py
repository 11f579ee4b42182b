"""Name servers."""

from registry import covered, scenario
from world import World, cluster_of


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


@covered("DnsServerFailing", "DnsNodeFailing")
@scenario
def name_servers_that_fail_sick_agents_are_not_accused(**more):
    world = cluster_of(6, minutes=25, **more)
    asked(world, "10.96.0.10", lambda m: 0.5)
    for node in world.nodes:
        world.sick(node, "stalled", 0)
    return world, {25: ["PodsonarAgentSick"]}
