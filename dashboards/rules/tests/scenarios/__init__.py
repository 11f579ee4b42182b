"""What happens in clusters, and exactly which alerts then fire. See ../registry.py."""

from scenarios import agents, dns, healthy, latency, nodes, pairs, paths, pods, recorded, setups, zones  # noqa: F401
