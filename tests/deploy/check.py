"""Checks the ways to run kops-mirror: check.py [ROOT]. Prints what it found, and ends with 1 if something is not right."""

import os
import sys
from pathlib import Path

import alerts
import dashboard
import image
import manifests
import units
from findings import Findings

CHECKS = {"systemd": units.check, "image": image.check, "kubernetes": manifests.check, "prometheus": alerts.check, "grafana": dashboard.check}
HERE = Path(__file__).resolve().parents[2]


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    failed = 0
    for name, check in CHECKS.items():
        found = Findings()
        check(root, found)
        failed += show(name, found)
    program = os.environ.get("KOPS_MIRROR_PROGRAM")
    if program:
        found = Findings()
        image.runs_by_hand(Path(program), found)
        failed += show("image", found)
    return 1 if failed else 0


def show(name, found):
    for fact in found.facts:
        print(f"  {name}: {fact}")
    for problem in found.problems:
        print(f"  {name}: NOT RIGHT: {problem}")
    return bool(found.problems)


if __name__ == "__main__":
    sys.exit(main())
