"""What the rules cost in a large cluster: a real Prometheus scrapes as many agents as asked for, each with 32 peers, from one
small server, and tells how long an evaluation of each group takes.

    scale.py PROMETHEUS [NODES [MINUTES]]

Ten minutes of data are in the windows after ten minutes; half of a percent of the edges lose packets.
"""

import http.server
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

RULES = pathlib.Path(__file__).resolve().parent.parent / "podsonar.yaml"
PEERS, ZONES, PORT = 32, "abc", 19980
BOUNDS = ("0.0001", "0.00025", "0.0005", "0.001", "0.002", "0.005", "0.01", "0.05", "0.25", "+Inf")
STARTED = time.time()


def scrape(i, nodes):
    """The metrics of agent `i` that the rules read."""
    age = int(time.time() - STARTED)
    zone = ZONES[i % 3]
    own = f'source="n{i}",source_zone="{zone}"'
    yield f'podsonar_build_info{{{own},version="1.0.0"}} 1'
    yield f"process_start_time_seconds {STARTED + i}"
    yield 'podsonar_peers{state="told"} 32'
    yield 'podsonar_watch_age_seconds{watch="pods"} 0'
    for reason in ("control", "lag", "drops", "throttled", "stalled", "clock"):
        yield f'podsonar_agent_fault{{reason="{reason}"}} 0'
    for turn in range(1, PEERS // 2 + 1):
        for peer in ((i + turn * 7) % nodes, (i - turn * 7) % nodes):
            there = f'destination="n{peer}",destination_zone="{ZONES[peer % 3]}"'
            path = f'protocol="icmp",family="4",kind="agent",{own},{there}'
            lost = age // 20 if (i * 31 + peer) % 200 == 0 else 0
            yield f'podsonar_probes_total{{{path},result="reply"}} {age - lost}'
            yield f'podsonar_probes_total{{{path},result="lost"}} {lost}'
            yield f'podsonar_probes_total{{{path},result="unreachable"}} 0'
            yield f"podsonar_loss_episodes_total{{{path}}} {lost}"
            yield f"podsonar_rtt_floor_seconds{{{path}}} 0.0003"
            for bound in BOUNDS:
                yield f'podsonar_rtt_seconds_bucket{{le="{bound}",{path}}} {age if float(bound) > 0.0004 else 0}'
            way = f'family="4",source="n{peer}",source_zone="{ZONES[peer % 3]}",destination="n{i}",destination_zone="{zone}"'
            yield f"podsonar_inbound_probes_total{{{way}}} {age}"
            yield f"podsonar_inbound_lost_total{{{way}}} 0"


def serve(nodes):
    """Agent `i` is at /i."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = "\n".join(scrape(int(self.path[1:]), nodes)) + "\n"
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def configuration(nodes):
    """Each agent is a target; JSON is YAML."""
    jobs = [
        {
            "job_name": f"agent-{i}",
            "metrics_path": f"/{i}",
            "static_configs": [{"targets": [f"127.0.0.1:{PORT}"], "labels": {"instance": f"n{i}"}}],
            "relabel_configs": [{"target_label": "job", "replacement": "podsonar"}],
        }
        for i in range(nodes)
    ]
    return {"global": {"scrape_interval": "30s"}, "rule_files": [str(RULES)], "scrape_configs": jobs}


def ask(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT + 1}{path}") as answer:
        return json.load(answer)["data"]


def main(prometheus, nodes=500, minutes=12):
    nodes = int(nodes)
    serve(nodes)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "prometheus.yml")
        file.write_text(json.dumps(configuration(nodes)))
        server = subprocess.Popen(
            [prometheus, f"--config.file={file}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{PORT + 1}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(60 * float(minutes))
            for group in ask("/api/v1/rules")["groups"]:
                wrong = [rule["name"] for rule in group["rules"] if rule["health"] == "err"]
                print(f"{group['name']}: {group['evaluationTime']:.2f} s each {group['interval']} s", *wrong)
            for rule in sorted((r for g in ask("/api/v1/rules")["groups"] for r in g["rules"]), key=lambda r: -r["evaluationTime"])[:12]:
                print(f"  {rule['evaluationTime']:.2f} s {rule['name']}")
            for what in ('count({__name__=~"podsonar:.*"})', 'count({__name__=~"podsonar_.*"})'):
                print(what, [s["value"][1] for s in ask("/api/v1/query?query=" + urllib.request.quote(what))["result"]])
        finally:
            server.terminate()
            server.wait()


main(*sys.argv[1:])
