"""Checks config/grafana/kops-mirror.json: its form, its places, and that each query has an answer where there are metrics."""

import json
import re
import tempfile
from itertools import combinations
from pathlib import Path

import yaml

import metrics
from findings import output_of, text_of

PATH = "config/grafana/kops-mirror.json"
COLUMNS = 24
# What Grafana puts in the place of its variables, for promtool.
VARIABLES = {"$__rate_interval": "5m", "$__range": "3h", "$job": "kops-mirror", "$set": ".*", "$target": ".*"}


def check(root, found):
    try:
        dashboard = json.loads(text_of(root, PATH))
    except json.JSONDecodeError as error:
        found.problem(f"{PATH} is no JSON: {error}")
        return
    panels = dashboard["panels"]
    places(panels, found)
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    queries = []
    for panel in panels:
        if panel["type"] != "row":
            queries += of_panel(panel, names, found)
    known = metrics.read(found)
    for at, expression in queries:
        known.expect_known(at, expression, found)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            known.expect_known(f"the variable {variable['name']}", re.sub(r"label_values\((.*), \w+\)", r"\1", variable["definition"]), found)
    told = {name for _, expression in queries for name in metrics.names_in(expression)}
    found.expect(not set(known.labels) - told, f"no panel shows {sorted(set(known.labels) - told)}")
    answered(queries, known, found)
    found.fact(f"{len(panels)} panels stand side by side, and each of {len(queries)} queries has an answer")


def places(panels, found):
    ids = [panel["id"] for panel in panels]
    found.expect(len(ids) == len(set(ids)), "two panels have one id")
    for panel in panels:
        place = panel["gridPos"]
        found.expect(place["x"] >= 0 and place["w"] > 0 and place["x"] + place["w"] <= COLUMNS, f"'{panel['title']}' stands beside the page")
    for one, other in combinations(panels, 2):
        found.expect(not overlap(one["gridPos"], other["gridPos"]), f"'{one['title']}' and '{other['title']}' overlap")


def overlap(one, other):
    return all(
        one[at] < other[at] + other[length] and other[at] < one[at] + one[length] for at, length in (("x", "w"), ("y", "h"))
    )


def of_panel(panel, names, found):
    title = panel["title"]
    found.expect(panel.get("description"), f"'{title}' says nothing of what it shows")
    for target in [panel, *panel["targets"]]:
        found.expect(target["datasource"]["uid"] == "${datasource}", f"'{title}' has a data source of its own")
    letters = [target["refId"] for target in panel["targets"]]
    found.expect(letters and len(letters) == len(set(letters)), f"'{title}' has queries of one name, or none")
    for target in panel["targets"]:
        for name in re.findall(r"\$(\w+)", target["expr"]):
            found.expect(name in names or name.startswith("__"), f"'{title}' uses a variable that there is not: {name}")
        yield f"'{title}'", with_values(target["expr"])


def with_values(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def answered(queries, known, found):
    """Makes of each query an alert that fires where it has an answer, and has promtool see them fire."""
    rules = [{"alert": f"Query{number}", "expr": f"count({expression}) > 0"} for number, (_, expression) in enumerate(queries)]
    test = {
        "rule_files": ["queries.yaml"],
        "tests": [
            {
                "interval": "1m",
                "input_series": list(known.as_input()),
                "alert_rule_test": [
                    {"alertname": rule["alert"], "eval_time": "4h", "exp_alerts": [{"exp_labels": {}}]} for rule in rules
                ],
            }
        ],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
        (folder / "test.yaml").write_text(yaml.safe_dump(test))
        code, said = output_of("promtool", "check", "rules", folder / "queries.yaml")
        if not found.expect(code == 0, f"a query of the dashboard is none: {said[:1500]}"):
            return
        code, said = output_of("promtool", "test", "rules", folder / "test.yaml")
    if code != 0:
        silent = [queries[int(number)] for number in re.findall(r"alertname: Query(\d+),", said)]
        found.problem(f"no answer to {silent}" if silent else f"promtool test rules: {said[:1500]}")
