"""What alerts say, word by word: texts.json has the labels and annotations of each alert, for each shape of place that it names,
as promtool rendered them when somebody last looked (UPDATE_GOLDEN=1)."""

import json
import pathlib
import re
import subprocess

FILE = pathlib.Path(__file__).with_name("texts.json")


def wanted(scenarios):
    """For each alert and shape of its place, the first scenario and minute in which it fires."""
    first = {}
    for name, make in scenarios.items():
        for minute, alerts in make()[1].items():
            for text in alerts:
                alert, *labels = text.split()
                shape = " ".join([name if name.endswith("says_so") else "", alert, *(label.split("=")[0] for label in labels if not label.endswith("="))])
                first.setdefault(shape, (name, minute, alert))
    return first


def tests(scenario):
    """The checks of one scenario's texts, as promtool reads them."""
    return [check["test"] for check in json.loads(FILE.read_text()) if check["scenario"] == scenario]


def missing(scenarios):
    """Alerts, in the shapes of their places, of which nobody has looked at what they say."""
    there = {(check["scenario"], check["test"]["alertname"]) for check in json.loads(FILE.read_text())}
    for shape, (name, _, alert) in wanted(scenarios).items():
        if (name, alert) not in there:
            yield f"texts.json has not what {shape.strip()} says: UPDATE_GOLDEN=1 writes it"


def update(scenarios, write, promtool):
    """Asks promtool for what it renders, and writes that down."""
    checks = []
    for name, minute, alert in sorted(set(wanted(scenarios).values())):
        test = {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": [{"exp_labels": {"nobody": "says this"}}]}
        said = subprocess.run([promtool, "test", "rules", write(name, [test])], capture_output=True, text=True)
        got = (said.stdout + said.stderr).split("got:[")[1]
        test["exp_alerts"] = [
            {"exp_labels": pairs(labels, "alertname"), "exp_annotations": pairs(annotations)}
            for labels, annotations in re.findall(r"Labels:\{(.*)\}\n\s*Annotations:\{(.*)\},?\n", got)
        ]
        checks.append({"scenario": name, "test": test})
    FILE.write_text(json.dumps(checks, indent=1) + "\n")


def pairs(text, *without):
    found = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text)
    return {key: json.loads(f'"{value}"') for key, value in found if key not in without}
