"""A cluster of agents as Prometheus sees it: what each agent's counters would be, scrape by scrape.

A `World` is written by a scenario (which nodes, which faults, when) and gives the `input_series` of a promtool test. The
counters follow the agent's own rules: what is lost counts as lost, a total outage is one run of losses and no gap that a
receiver can count, a node that is off is not scraped, a peer that left is no longer probed.
"""

STEP = 30  # seconds between two scrapes
REASONS = ("control", "lag", "drops", "throttled", "stalled", "clock")
VOID = ("not_sent", "skipped", "unknown", "discarded", "intercepted")


class World:
    """Nodes by name with their zones, and what happens to them. Times are in minutes, but those between two scrapes (`step`)
    and two evaluations of the rules (`evaluated`) in seconds."""

    def __init__(self, nodes, minutes=20, cluster=None, family="4", peers=None, step=STEP, evaluated=60):
        self.nodes = dict(nodes)
        self.step, self.evaluated = step, evaluated
        self.steps = minutes * 60 // step + 1
        self.cluster, self.family = cluster, family
        self.peers = peers or {a: [b for b in self.nodes if b != a] for a in self.nodes}
        self.ways = []  # (source, destination, share lost, from, until)
        self.away = []  # (node, from, until, how)
        self.faults = []  # (node, reason, from, until)
        self.restarts = []  # (node, at)
        self.floors = []  # (source, destination, seconds more, from, until)
        self.extra = []  # (node, metric, labels, function of the step or None)
        self.dns = {}  # (node, server) -> function of the step: share that times out
        self.pods = False  # whether scraping adds the pod's name, which a restart changes

    def pairs(self, sources, destinations):
        """Every pair of different nodes with such ends: each is a node, several, or with `None` all."""
        return [(a, b) for a in self.chosen(sources) for b in self.chosen(destinations) if a != b]

    def chosen(self, ends):
        return self.nodes if ends is None else [ends] if isinstance(ends, str) else ends

    def zone(self, zone):
        """The nodes of a zone."""
        return [node for node, its in self.nodes.items() if its == zone]

    # What a scenario says. Ends are as `pairs` has them.
    def lose(self, source, destination, share, start=5, end=1e9):
        """What `source` sends to `destination` is lost, one way."""
        for a, b in self.pairs(source, destination):
            self.ways.append((a, b, share, start, end))

    def off(self, node, start=5, end=1e9):
        """Powered off: not scraped, and silent."""
        self.away.append((node, start, end, "off"))

    def unscraped(self, node, start=5, end=1e9):
        """Prometheus does not get it, its peers do."""
        self.away.append((node, start, end, "unscraped"))

    def gone(self, node, start=5, end=1e9):
        """Drained and removed, in order: nobody probes it any more."""
        self.away.append((node, start, end, "gone"))

    def sick(self, node, reason="control", start=5, end=1e9):
        self.faults.append((node, reason, start, end))

    def restart(self, node, at):
        """A new process: its counters begin at zero."""
        self.restarts.append((node, at))

    def slower(self, source, destination, seconds, start, end=1e9):
        """Round trips take longer."""
        for a, b in self.pairs(source, destination):
            self.floors += [(a, b, seconds, start, end), (b, a, seconds, start, end)]

    def says(self, node, metric, value=1, start=5, end=1e9, **labels):
        """A series of one agent: a number, or a function of the seconds since `start`, which counters need."""
        self.extra.append((node, metric, labels, value, start, end))

    # What follows.
    def minute(self, step):
        return step * self.step / 60

    def during(self, step, start, end):
        return start <= self.minute(step) < end

    def is_away(self, node, step, *hows):
        return any(n == node and how in hows and self.during(step, a, b) for n, a, b, how in self.away)

    def lost(self, source, destination, step):
        """Share of what `source` sends to `destination` that does not arrive."""
        if self.is_away(source, step, "off") or self.is_away(destination, step, "off"):
            return 1
        kept = 1
        for a, b, share, start, end in self.ways:
            if (a, b) == (source, destination) and self.during(step, start, end):
                kept *= 1 - share
        return 1 - kept

    def lost_both_ways(self, source, destination, step):
        """Share of round trips that are lost."""
        if step < 0:
            return 0
        return 1 - (1 - self.lost(source, destination, step)) * (1 - self.lost(destination, source, step))

    def labels(self, node, step):
        base = {"job": "podsonar", "namespace": "monitoring", "instance": node}
        if self.cluster:
            base["cluster"] = self.cluster
        if self.pods:
            base["pod"] = f"podsonar-{node}-{sum(n == node and self.minute(step) >= at for n, at in self.restarts)}"
        return base

    def path(self, source, destination):
        zones = {"source_zone": self.nodes[source], "destination_zone": self.nodes[destination]}
        return {"source": source, "destination": destination} | {k: z for k, z in zones.items() if z}

    def series(self):
        """All series, as promtool reads them."""
        table = {}
        for node in self.nodes:
            self.agent(table, node)
        return [{"series": name, "values": " ".join(values)} for name, values in sorted(table.items())]

    def agent(self, table, node):
        counters = {}
        zone = self.nodes[node]
        own = {"source": node} | ({"source_zone": zone} if zone else {})
        for step in range(self.steps):
            if any(n == node and self.minute(step) == at for n, at in self.restarts):
                counters = {}
            there = not self.is_away(node, step, "off", "gone")
            samples = {}

            def put(metric, labels, value):
                samples[name(metric, labels | self.labels(node, step))] = value

            def count(metric, labels, more):
                key = name(metric, labels)
                counters[key] = counters.get(key, 0) + more
                put(metric, labels, int(counters[key] + 1e-6))

            started = max([at for n, at in self.restarts if n == node and at <= self.minute(step)], default=0)
            put("podsonar_build_info", own | {"version": "1.0.0"}, 1)
            put("process_start_time_seconds", {}, 1000 + list(self.nodes).index(node) + started * 60)
            put("podsonar_peers", {"state": "told"}, len(self.peers[node]))
            put("podsonar_watch_age_seconds", {"watch": "pods"}, 0)
            put("podsonar_scheduled_probes_per_second", {}, len(self.peers[node]))
            put("podsonar_config_last_reload_successful", {}, 1)
            count("podsonar_clock_jumps_total", {}, 0)
            count("podsonar_socket_drops_total", {"protocol": "icmp", "family": self.family}, 0)
            count("podsonar_inbound_drops_total", {"family": self.family}, 0)
            for stamp in ("software", "user"):
                labels = {"protocol": "icmp", "family": self.family, "direction": "rx", "stamp": stamp}
                count("podsonar_stamp_source_total", labels, self.step if stamp == "software" else 0)
            for result in ("ok", "not_modified", "refused", "timeout"):
                labels = own | {"result": result} | ({"destination_zone": zone} if zone else {})
                count("podsonar_exchange_total", labels, self.step / 3 if result == "not_modified" else 0)
            for reason in REASONS:
                sick = any(n == node and r == reason and self.during(step, a, b) for n, r, a, b in self.faults)
                put("podsonar_agent_fault", {"reason": reason}, int(sick))
            for reason in VOID:
                labels = {"protocol": "icmp", "family": self.family, "kind": "agent", "source": node, "reason": reason}
                count("podsonar_probes_void_total", labels, 0)
            for peer in self.peers[node]:
                self.edge(node, peer, step, put, count)
            for (asker, server), share in self.dns.items():
                if asker == node:
                    for result, part in (("noerror", 1 - share(self.minute(step))), ("timeout", share(self.minute(step)))):
                        labels = own | {"server": server, "name": "web.example.", "result": result}
                        count("podsonar_dns_queries_total", labels, part * self.step / 2)
            for whose, metric, labels, value, start, end in self.extra:
                if whose == node:
                    if callable(value):
                        put(metric, labels, value(max(0, (self.minute(step) - start) * 60)))
                    elif self.during(step, start, end):
                        put(metric, labels, value)
            if there and not self.is_away(node, step, "unscraped"):
                for key, value in samples.items():
                    table.setdefault(key, ["stale"] * self.steps)[step] = str(value)

    def edge(self, node, peer, step, put, count):
        gone = self.is_away(peer, step, "gone") or self.is_away(node, step, "off", "gone")
        probed = 0 if gone else self.step
        share, before = self.lost_both_ways(node, peer, step), self.lost_both_ways(node, peer, step - 1)
        icmp = {"protocol": "icmp", "family": self.family, "kind": "agent"} | self.path(node, peer)
        count("podsonar_probes_total", icmp | {"result": "reply"}, probed * (1 - share))
        count("podsonar_probes_total", icmp | {"result": "lost"}, probed * share)
        count("podsonar_probes_total", icmp | {"result": "unreachable"}, 0)
        # A total outage is one run of losses; single losses are a run each.
        count("podsonar_loss_episodes_total", icmp, int(before < 0.9) if share >= 0.9 else probed * share)
        if share < 0.9 and probed:
            more = sum(s for a, b, s, t, u in self.floors if (a, b) == (node, peer) and self.during(step, t, u))
            put("podsonar_rtt_floor_seconds", icmp, round(0.0002 + more, 7))
        # What the peer sends, as this node receives it. A total outage makes no gap that could be counted.
        way = {"family": self.family} | self.path(peer, node)
        lost = self.lost(peer, node, step)
        sent = 0 if lost >= 0.9 or gone else self.step
        count("podsonar_inbound_probes_total", way, sent * (1 - lost))
        count("podsonar_inbound_lost_total", way, sent * lost)


def name(metric, labels):
    """A series' name."""
    inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if value != "")
    return f"{metric}{{{inner}}}"


def cluster_of(count, zones=("a", "b", "c"), **more):
    """Nodes n1 to n`count`, in turn in these zones."""
    return World({f"n{i + 1}": zones[i % len(zones)] for i in range(count)}, **more)
