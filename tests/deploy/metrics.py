"""What /metrics tells, by the sample beside this file: names, labels and their values, and queries that go by them."""

import re
from pathlib import Path

from findings import output_of

SAMPLE = Path(__file__).with_name("metrics.prom")
# Labels that Prometheus gives to what it reads.
GIVEN = {"job", "instance", "namespace"}
# Labels of which the sample has every value; another one selects nothing.
CLOSED = {"state", "end", "purpose", "class", "result"}
WORDS = set("by on without ignoring group_left group_right and or unless bool offset inf nan".split())


class Metrics:
    def __init__(self, text):
        self.series = []
        self.counters = set(re.findall(r"^# TYPE (\S+) counter$", text, re.M))
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
                self.series.append((name, labels or "", float(value)))
        self.labels = {}
        for name, labels, _ in self.series:
            for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
                self.labels.setdefault(name, {}).setdefault(label, set()).add(value)
            self.labels.setdefault(name, {})

    def as_input(self):
        """Its series as promtool takes them, read by a job kops-mirror for some hours, in which counters grow."""
        for name, labels, value in self.series:
            every = ",".join(filter(None, [labels, 'job="kops-mirror"', 'instance="10.0.0.7:8430"']))
            growth = "+7x300" if name in self.counters else "x300"
            yield {"series": f"{name}{{{every}}}", "values": f"{value:.0f}{growth}"}

    def expect_known(self, at, expression, found):
        """Notes every metric, label and value in a query that there is not."""
        for name, labels in re.findall(r"\b([a-z_]\w*)\s*(?:\{([^}]*)\})", expression):
            if name not in ("up", "ALERTS") and name in self.labels:
                self.expect_labels(at, name, labels, found)
        for name in names_in(expression):
            found.expect(name in self.labels or name == "up", f"{at}: there is no metric {name}")

    def expect_labels(self, at, name, labels, found):
        for label, test, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', labels):
            known = self.labels[name].get(label)
            found.expect(known is not None or label in GIVEN, f"{at}: {name} has no label {label}")
            if known and label in CLOSED:
                strange = {one for one in value.split("|")} - known
                found.expect(not strange, f"{at}: {name} has no {label} {sorted(strange)}")


def names_in(expression):
    """The metrics that a query names: words that are no function, no keyword, no label and no unit of time."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    for word in re.finditer(r"\b[a-zA-Z_]\w*\b(?!\s*\()", bare):
        if word[0].lower() not in WORDS:
            yield word[0]


def read(found):
    text = SAMPLE.read_text(encoding="utf-8")
    code, said = output_of("promtool", "check", "metrics", stdin=text)
    found.expect(code == 0 and not said, f"promtool check metrics: {said}")
    return Metrics(text)
