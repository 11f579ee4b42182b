"""The rules name only what the golden scrape has, and what they record themselves; every alert is whole and has its place in
the runbook and a scenario in which it fires."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]
RULES = (ROOT / "dashboards/rules/podsonar.yaml").read_text()
GOLDEN = (ROOT / "agent/tests/golden/scrape.txt").read_text()
RUNBOOK = (ROOT / "dashboards/runbook.md").read_text()
URL = "https://github.com/podsonar/podsonar/blob/main/dashboards/runbook.md#"
# What scraping adds; what rules give to their own series.
SCRAPED = {"cluster", "namespace", "pod", "job", "instance"}
OWN = {"node", "zone", "workload", "was", "fault", "trouble", "direction", "scope", "server", "le"}


# Nothing is wider.
WIDEST = {"PodsonarAbsent"}


def problems(fired, covered):
    """Everything that is wrong, in words; `fired` are the alerts that fire in some scenario, `covered` those that are covered."""
    code = "\n".join(line for line in RULES.splitlines() if not line.lstrip().startswith("#"))
    exposed = set(re.findall(r"^(?:# TYPE )?([a-z][a-z0-9_]+)", GOLDEN, re.M))
    labels = set(re.findall(r'[{,]([a-z_]+)="', GOLDEN)) | SCRAPED | OWN
    # Values of labels come from samples, and from the words of the help.
    values = set(re.findall(r'="([^"]*)"', GOLDEN)) | set(re.findall(r"[a-z_]+", " ".join(re.findall("# HELP.*", GOLDEN))))
    values |= {"agent"}

    for name in sorted(set(re.findall(r"\b(?:podsonar|process)_[a-z0-9_]+", code)) - exposed):
        yield f"{name} is not in the golden scrape"
    recorded = set(re.findall(r"record: (\S+)", code))
    for name in sorted(set(re.findall(r"\bpodsonar:[a-z0-9_:]*[a-z0-9_]", code)) - recorded):
        yield f"{name} is not recorded"
    used = set(re.findall(r'([a-z_]+)(?:=~|!~|!=|=)"', code))
    for inner in re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right) \(([a-z_,\s]*)\)", code):
        used |= set(re.findall(r"[a-z_]+", inner))
    for name in sorted(used - labels):
        yield f"no series has the label {name}"
    for metric, matchers in re.findall(r"\b(podsonar_[a-z0-9_]+)\{([^}]*)\}", code):
        for label, value in re.findall(r'([a-z_]+)(?:=~|!~|!=|=)"([^"]*)"', matchers):
            for word in value.split("|"):
                if word and word not in values:
                    yield f'{metric} never has {label}="{word}"'
    if re.search(r'\ble(?:=~|!~|!=|=)"', code):
        yield "a rule matches le, whose values are settings"

    for block in re.split(r"\n(?=      - (?:alert|record): )", code):
        alert = re.match(r"\s*- alert: (\S+)", block)
        if not alert:
            continue
        alert = alert[1]
        if alert not in fired:
            yield f"{alert} fires in no scenario"
        if alert not in covered | WIDEST:
            yield f"{alert} is covered in no scenario"
        for part in ("summary: ", "description: ", f"runbook_url: {URL}{alert.lower()}\n", "for: "):
            if part not in block + "\n":
                yield f"{alert} has no {part.strip()}"
        if not re.search(r"severity: (critical|warning|info)\b", block):
            yield f"{alert} has no severity"
        if f"\n## {alert}\n" not in RUNBOOK:
            yield f"{alert} is not in the runbook"
    for heading in re.findall(r"^## (\S+)$", RUNBOOK, re.M):
        if f"- alert: {heading}\n" not in RULES:
            yield f"the runbook tells of {heading}, which is no alert"
