"""Checks config/systemd/ with systemd's own tools, and by what the daemon needs of it."""

import re
import tempfile
from pathlib import Path

from findings import output_of, text_of

DAEMON = "kops-mirror.service"
ONCE = "kops-mirror-sync.service"
TIMER = "kops-mirror-sync.timer"
# systemd-analyze counts in tenths: 20 is an exposure of 2.0, the best of its four classes.
EXPOSURE_MOST = 20
DRAIN_SECONDS = 30
# Settings that systemd knows since 254. An older one leaves them out and says so.
LATER = re.compile(r"Unknown key (name )?'(RestartSteps|RestartMaxDelaySec)' in section \[?'?Service'?\]?, ignoring")


def check(root, found):
    units = {name: text_of(root, f"config/systemd/{name}") for name in (DAEMON, ONCE, TIMER)}
    with tempfile.TemporaryDirectory() as folder:
        written = write(units, Path(folder))
        verify(written, found)
        for name in (DAEMON, ONCE):
            expose(written[name], found)
    same_sandbox(units, found)
    the_daemon(settings(units[DAEMON]), found)


def write(units, folder):
    """The units as they would be installed, but for the program: verify wants to find it."""
    written = {}
    for name, text in units.items():
        written[name] = folder / name
        written[name].write_text(text.replace("=/usr/local/bin/kops-mirror ", "=/bin/true "))
    return written


def verify(written, found):
    code, said = output_of("systemd-analyze", "verify", "--man=no", *written.values())
    lines = [line for line in said.splitlines() if not LATER.search(line)]
    found.expect(code == 0 and not lines, f"systemd-analyze verify: {code}: " + "; ".join(lines))
    found.fact("systemd-analyze verify has no objection to " + ", ".join(written))


def expose(path, found):
    code, said = output_of(
        "systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={EXPOSURE_MOST}", path
    )
    level = re.search(r"Overall exposure level for \S+: (\S+)", said)
    if not found.expect(level, f"systemd-analyze security tells no level of {path.name}: {said[-300:]}"):
        return
    found.expect(code == 0, f"{path.name} is exposed at {level[1]}, more than {EXPOSURE_MOST / 10}")
    found.fact(f"{path.name} is exposed at {level[1]} of 10")


def settings(text):
    """Name to values, in order. A line that ends in a backslash does not occur here."""
    values = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            values.setdefault(name, []).append(value)
    return values


def same_sandbox(units, found):
    def sandbox(name):
        lines = units[name].split("# Sandbox", 1)[-1].split("[Install]")[0].splitlines()[1:]
        return [line for line in lines if line.strip()]

    found.expect(sandbox(DAEMON) == sandbox(ONCE), f"{DAEMON} and {ONCE} have not the same sandbox")
    found.expect(len(sandbox(DAEMON)) > 20, f"{DAEMON} has hardly a sandbox")


def the_daemon(unit, found):
    def is_one(name, value):
        found.expect(unit.get(name) == [value], f"{DAEMON}: {name} is {unit.get(name)} and not {value}")

    is_one("Type", "notify")
    is_one("ExecReload", "/bin/kill -HUP $MAINPID")
    is_one("Restart", "on-failure")
    is_one("DynamicUser", "yes")
    is_one("StateDirectory", "kops-mirror")
    is_one("CacheDirectory", "kops-mirror")
    is_one("LoadCredential", "token:/etc/kops-mirror/token")
    for name in ("WatchdogSec", "TimeoutStopSec"):
        found.expect(re.fullmatch(r"\d+s", unit.get(name, [""])[0]), f"{DAEMON}: {name} is no number of seconds")
    stop = unit.get("TimeoutStopSec", ["0s"])[0]
    found.expect(int(stop.rstrip("s") or 0) > DRAIN_SECONDS, f"{DAEMON}: TimeoutStopSec={stop} cuts a drain of {DRAIN_SECONDS} s short")
    command = unit.get("ExecStart", [""])[0]
    for flag in ("--config /etc/kops-mirror/", "--state %S/kops-mirror", "--spool %C/kops-mirror", "--token-file %d/token"):
        found.expect(flag in command, f"{DAEMON}: ExecStart has no {flag}")
