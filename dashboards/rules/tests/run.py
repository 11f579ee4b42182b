"""Runs promtool over the rules and every scenario, which it writes as promtool's test files.

    run.py FOLDER PROMTOOL [PROMTOOL]

The first promtool takes clusters without a label `cluster`, the second those with one, at the same time; with ALL=1 each takes
both. ONLY=text runs the scenarios with that in their names; UPDATE_GOLDEN=1 writes texts.json first.
"""

import json
import os
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from names import problems  # noqa: E402
import texts  # noqa: E402
import scenarios  # noqa: E402, F401
from registry import COVERED, SCENARIOS  # noqa: E402

RULES = pathlib.Path(__file__).resolve().parent.parent / "podsonar.yaml"
PLACES = "cluster, node, zone, direction, source, source_zone, destination, destination_zone, server, namespace, workload, pod"
FIRING = f'count by (alertname, {PLACES}) (ALERTS{{alertstate="firing"}})'


def sample(text, cluster):
    """`Name label=value ...` as promtool writes it; without a name if it is `-`."""
    alert, *labels = text.split()
    pairs = {"cluster": cluster or "", "alertname": alert.strip("-")} | dict(label.split("=", 1) for label in labels)
    inner = ",".join(f'{key}="{value}"' for key, value in sorted(pairs.items()) if value)
    return {"labels": f"{{{inner}}}", "value": 1}


def write(folder, name, cluster, said):
    """The test file of one scenario, with what its alerts say. It is JSON, which is YAML."""
    world, expected, *more = SCENARIOS[name](cluster=cluster)
    checks = [
        {"expr": FIRING, "eval_time": f"{minute}m", "exp_samples": [sample(text, cluster) for text in alerts]}
        for minute, alerts in expected.items()
    ]
    for minute, expression, values in more[0] if more else ():
        samples = [sample(text, cluster) | {"value": value} for text, value in values.items()]
        checks.append({"expr": expression, "eval_time": f"{minute}m", "exp_samples": samples})
    test = {
        "name": name,
        "interval": f"{world.step}s",
        "input_series": world.series(),
        "promql_expr_test": checks,
        "alert_rule_test": said,
    }
    path = folder / f"{name}{'.' + cluster if cluster else ''}.yaml"
    file = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{world.evaluated}s",
        "group_eval_order": ["podsonar", "podsonar-baseline", "podsonar-quantiles"],
        "tests": [test],
    }
    path.write_text(json.dumps(file))
    return path


def main(folder, *promtools):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in SCENARIOS if os.environ.get("ONLY", "") in name]
    if os.environ.get("UPDATE_GOLDEN"):
        texts.update(SCENARIOS, lambda name, said: write(folder, name, None, said), promtools[0])
    runs = []
    for promtool, cluster in zip(promtools, (None, "east")):
        # Promtool 2.42 cannot be given native histograms.
        now = [name for name in names if cluster or not name.startswith("native_")]
        clusters = (None, "east") if os.environ.get("ALL") else (cluster,)
        files = [
            write(folder, name, cluster, [] if cluster else texts.tests(name)) for name in now for cluster in clusters
        ]
        for arguments in (["check", "rules", RULES], *([["test", "rules", *files]] if files else [])):
            runs.append(subprocess.Popen([promtool, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    said = [run.communicate()[0] for run in runs]
    if any(run.returncode for run in runs):
        sys.exit("\n".join(text for text, run in zip(said, runs) if run.returncode))
    fired = {text.split()[0] for make in SCENARIOS.values() for alerts in make()[1].values() for text in alerts}
    wrong = list(problems(fired, {alert for alerts in COVERED.values() for alert in alerts})) + list(texts.missing(SCENARIOS))
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(names)} scenarios hold")


main(*sys.argv[1:])
