"""Breaks a copy of what check.py looks at, one thing at a time, and sees that the check says so: broken.py [ROOT]."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from check import CHECKS, HERE
from findings import Findings

COPIED = ("Dockerfile", ".dockerignore", "Cargo.toml", "Cargo.lock", "LICENSE", "src", "benches", "config")
DAEMON = "config/systemd/kops-mirror.service"
ONCE = "config/systemd/kops-mirror-sync.service"
ALERTS = "config/prometheus/alerts.yaml"
GRAFANA = "config/grafana/kops-mirror.json"
DEPLOYMENT = "config/kubernetes/daemon/deployment.yaml"
JOB = "config/kubernetes/bulk/job.yaml"
CRON_JOB = "config/kubernetes/scheduled/cron-job.yaml"
MONITOR = "config/kubernetes/monitoring/service-monitor.yaml"


class Break(NamedTuple):
    check: str
    path: str
    old: str
    new: str
    says: str


BREAKS = [
    Break("systemd", DAEMON, "ProtectHome=yes", "ProtectHome=perhaps", "systemd-analyze verify"),
    Break("systemd", DAEMON, "WatchdogSec=60s", "WatchdogSecs=60s", "Unknown key"),
    Break("systemd", DAEMON, "=/usr/local/bin/kops-mirror ", "=/usr/local/bin/kops-miror ", "systemd-analyze verify"),
    Break("systemd", DAEMON, "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n", "", "is exposed at"),
    Break("systemd", ONCE, "PrivateDevices=yes\n", "", "not the same sandbox"),
    Break("systemd", DAEMON, "TimeoutStopSec=45s", "TimeoutStopSec=20s", "cuts a drain"),
    Break("systemd", DAEMON, "Type=notify", "Type=simple", "Type is"),
    Break("systemd", DAEMON, " --token-file %d/token", "", "--token-file"),
    Break("systemd", "config/systemd/kops-mirror-sync.timer", "OnCalendar=hourly", "OnCalendar=sometimes", "systemd-analyze verify"),
    Break("image", "Dockerfile", "USER 65532:65532", "USER kops-mirror", "the last USER"),
    Break("image", "Dockerfile", "USER 65532:65532\n", "", "the last USER"),
    Break("image", "Dockerfile", "cc-debian12:nonroot", "cc-debian12", "not pinned"),
    Break("image", "Dockerfile", "rust:1.95-slim", "rust:1.80-slim", "as Cargo.toml has it"),
    Break("image", "Dockerfile", "ARG VERSION=0.1.0", "ARG VERSION=0.0.9", "as Cargo.toml has it"),
    Break("image", "Dockerfile", 'CMD ["daemon"', "CMD daemon #", "CMD needs a shell"),
    Break("image", "Dockerfile", "COPY LICENSE ", "ADD LICENSE ", "hadolint"),
    Break("image", "Dockerfile", "COPY benches benches\n", "", "cargo build would not find"),
    Break("image", "Dockerfile", "COPY src src", "COPY sources src", "there is none"),
    Break("image", ".dockerignore", "!config/digests.toml\n", "", "takes in"),
    Break("image", ".dockerignore", "!Cargo.lock\n", "", "COPY Cargo.lock"),
    Break("image", ".dockerignore", "*\n", "", "lets through"),
    Break("kubernetes", DEPLOYMENT, "periodSeconds: 2\n", "periodSecond: 2\n", "is not valid in Kubernetes"),
    Break("kubernetes", DEPLOYMENT, "replicas: 1", 'replicas: "1"', "is not valid in Kubernetes"),
    Break("kubernetes", DEPLOYMENT, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "its root can be written"),
    Break("kubernetes", DEPLOYMENT, "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
    Break("kubernetes", DEPLOYMENT, "drop:\n                - ALL", "drop:\n                - NET_RAW", "ALL capabilities"),
    Break("kubernetes", DEPLOYMENT, "type: RuntimeDefault", "type: Unconfined", "no seccomp profile"),
    Break("kubernetes", DEPLOYMENT, "          persistentVolumeClaim:\n            claimName: kops-mirror", "          hostPath:\n            path: /srv", "the volume kept"),
    Break("kubernetes", DEPLOYMENT, "claimName: kops-mirror", "claimName: kops", "refers to what is not there"),
    Break("kubernetes", DEPLOYMENT, "type: Recreate", "type: RollingUpdate", "two daemons"),
    Break("kubernetes", DEPLOYMENT, "path: /readyz", "path: /ready", "the readinessProbe asks"),
    Break("kubernetes", DEPLOYMENT, "containerPort: 8430", "containerPort: 8080", "it listens on"),
    Break("kubernetes", DEPLOYMENT, "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 30", "cut a drain"),
    Break("kubernetes", DEPLOYMENT, "mountPath: /var/cache/kops-mirror", "mountPath: /cache", "nothing is mounted"),
    Break("kubernetes", DEPLOYMENT, "enableServiceLinks: false", "enableServiceLinks: true", "KOPS_MIRROR_"),
    Break("kubernetes", "config/kubernetes/daemon/service.yaml", "  selector:\n    app.kubernetes.io/name: kops-mirror", "  selector:\n    app.kubernetes.io/name: mirror", "the Service does not select"),
    Break("kubernetes", "config/kubernetes/daemon/token.example.yaml", "REPLACE-ME", "c0ffee", "REPLACE-ME"),
    Break("kubernetes", "config/kubernetes/account/mirror.toml", "region =", "regoin =", "a setting that there is not"),
    Break("kubernetes", "config/kubernetes/account/mirror.toml", "8GiB", "20GiB", "does not fit"),
    Break("kubernetes", "config/kubernetes/account/service-account.yaml", "arn:aws-cn:", "arn:aws:", "no role of AWS China"),
    Break("kubernetes", "config/kubernetes/account/network-policy.yaml", "matchLabels:\n      app.kubernetes.io/name: kops-mirror", "matchLabels:\n      app: kops-mirror", "does not select"),
    Break("kubernetes", CRON_JOB, "concurrencyPolicy: Forbid", "concurrencyPolicy: Allow", "beside one that is under way"),
    Break("kubernetes", CRON_JOB, "timeZone: Asia/Shanghai", "timezone: Asia/Shanghai", "is not valid in Kubernetes"),
    Break("kubernetes", JOB, "completions: 4", "completions: 5", "5 pods do not share"),
    Break("kubernetes", JOB, "completionMode: Indexed", "completionMode: NonIndexed", "no index"),
    Break("kubernetes", JOB, "sizeLimit: 10Gi", "sizeLimit: 5Gi", "does not fit"),
    Break("kubernetes", MONITOR, "interval: 30s", "interval: 30 s", "interval"),
    Break("kubernetes", MONITOR, "scrapeTimeout:", "scrapeTimeOut:", "fields that we do not know"),
    Break("kubernetes", MONITOR, "port: http", "port: metrics", "asks a port"),
    Break("kubernetes", MONITOR, "component: daemon", "component: sync", "the ServiceMonitor does not select"),
    Break("kubernetes", "config/kubernetes/monitoring/kustomization.yaml", "service-monitor.yaml", "monitor.yaml", "kubectl kustomize"),
    Break("prometheus", ALERTS, "absent(kops_mirror_build_info)", "absent(kops_mirror_build_info", "promtool check rules"),
    Break("prometheus", ALERTS, "kops_mirror_damaged_objects_total", "kops_mirror_damage_total", "there is no metric kops_mirror_damage_total"),
    Break("prometheus", ALERTS, 'state="withdrawn"', 'state="gone"', "has no state"),
    Break("prometheus", ALERTS, 'kops_mirror_releases{state="changed"}', 'kops_mirror_releases{stat="changed"}', "has no label stat"),
    Break("prometheus", ALERTS, "192 * 1024 * 1024", "192 * 1024 * 1024 * 1024", "promtool test rules"),
    Break("prometheus", ALERTS, "> 24 * 3600", "> 48 * 3600", "promtool test rules"),
    Break("prometheus", ALERTS, "severity: critical", "severity: dire", "no severity"),
    Break("prometheus", "config/prometheus/alerts.test.yaml", "alertname: KopsMirrorWrongBytes", "alertname: KopsMirrorOther", "not tested both ways"),
    Break("grafana", GRAFANA, '"panels": [', '"panels": {', "is no JSON"),
    Break("grafana", GRAFANA, '"id": 3,', '"id": 2,', "two panels have one id"),
    Break("grafana", GRAFANA, '"x": 4,\n', '"x": 3,\n', "overlap"),
    Break("grafana", GRAFANA, '"x": 20,\n', '"x": 21,\n', "stands beside the page"),
    Break("grafana", GRAFANA, "sum by (end) (increase(kops_mirror_runs_total", "sum by (end) increase(kops_mirror_runs_total", "is none"),
    Break("grafana", GRAFANA, "kops_mirror_ready{", "kops_mirror_is_ready{", "there is no metric kops_mirror_is_ready"),
    Break("grafana", GRAFANA, '(kops_mirror_queued_runs{job=~\\"$job\\", set=~', '(kops_mirror_queued_runs{job=~\\"$job\\", name=~', "has no label name"),
    Break("grafana", GRAFANA, "process_open_fds and on (job, instance)", "process_open_fds and on (job, version)", "no answer"),
    Break("grafana", GRAFANA, 'min(kops_mirror_ready{job=~\\"$job\\"})', 'min(kops_mirror_ready{job=~\\"$cluster\\"})', "a variable that there is not"),
]


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            take = shutil.copytree if (root / name).is_dir() else shutil.copyfile
            take(root / name, copy / name)
        unseen = [broken for broken in BREAKS if not is_seen(broken, copy)]
    print(f"{len(BREAKS) - len(unseen)} passed, {len(unseen)} failed")
    return 1 if unseen else 0


def is_seen(broken, copy):
    path = copy / broken.path
    whole = path.read_text(encoding="utf-8")
    if broken.old not in whole:
        print(f"  {broken.path} has no {broken.old!r} to break")
        return False
    path.write_text(whole.replace(broken.old, broken.new, 1), encoding="utf-8")
    found = Findings()
    try:
        CHECKS[broken.check](copy, found)
    finally:
        path.write_text(whole, encoding="utf-8")
    if any(broken.says in problem for problem in found.problems):
        return True
    print(f"  {broken.path}: {broken.old!r} became {broken.new!r}, and nothing says '{broken.says}': {found.problems}")
    return False


if __name__ == "__main__":
    sys.exit(main())
