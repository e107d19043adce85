"""Checks config/prometheus/: promtool's opinion of the rules, their own tests, and that they go by metrics that there are."""

import re
from pathlib import Path

import yaml

import metrics
import operator_schema
from findings import output_of, text_of

FOLDER = "config/prometheus"
SEVERITIES = {"critical", "warning"}


def check(root, found):
    folder = Path(root) / FOLDER
    known = metrics.read(found)
    code, said = output_of("promtool", "check", "rules", "--lint=all", "--lint-fatal", folder / "alerts.yaml")
    if not found.expect(code == 0, f"promtool check rules: {said}"):
        return
    rules = yaml.safe_load(text_of(root, f"{FOLDER}/alerts.yaml"))
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    for rule in alerts:
        of_rule(rule, known, found)
    code, said = output_of("promtool", "test", "rules", folder / "alerts.test.yaml")
    found.expect(code == 0, f"promtool test rules: {said[:2000]}")
    each_fires(root, alerts, found)
    found.fact(f"{len(alerts)} alerts are well formed, fire when they should and not else, and go by metrics that there are")
    wrapped = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "kops-mirror"}, "spec": rules}
    operator_schema.expect_valid(wrapped, found)


def of_rule(rule, known, found):
    name = rule["alert"]
    found.expect(name.startswith("KopsMirror"), f"{name} is not named KopsMirror…")
    found.expect(rule["labels"].get("severity") in SEVERITIES, f"{name} has no severity of {sorted(SEVERITIES)}")
    texts = rule["annotations"]
    for text in ("summary", "description"):
        found.expect(texts.get(text), f"{name} has no {text}")
    found.expect(len(texts.get("description", "").split()) > 20, f"{name} does not say what to do")
    known.expect_known(name, rule["expr"], found)


def each_fires(root, alerts, found):
    """Each alert has a test in which it fires, and one in which it does not."""
    tests = yaml.safe_load(text_of(root, f"{FOLDER}/alerts.test.yaml"))["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    for rule in alerts:
        expected = [bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]]
        # What fires at once has its quiet time before the trouble; what is quiet for good is in the first test.
        found.expect(True in expected and False in expected, f"{rule['alert']} is not tested both ways")
