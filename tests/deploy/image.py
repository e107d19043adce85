"""Checks the Dockerfile: by hadolint, by rules of ours, and by doing by hand what can be done without an engine."""

import json
import os
import re
import shutil
import tempfile
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

from findings import output_of, text_of

# What gcr.io/distroless/cc-debian12 has of libraries: glibc's, and what gcc's run-time brings.
LIBRARIES = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1", "ld-linux-x86-64.so.2"}
LIBRARIES |= {"ld-linux-aarch64.so.1", "linux-vdso.so.1"}
USER = 65532


def check(root, found):
    steps = parse(text_of(root, "Dockerfile"))
    code, said = output_of("hadolint", "--failure-threshold", "style", Path(root) / "Dockerfile")
    found.expect(code == 0, f"hadolint: {said}")
    found.fact("hadolint has no objection to the Dockerfile")
    bases(steps, found)
    rules(root, steps, found)
    with tempfile.TemporaryDirectory() as folder:
        built_from(Path(root), steps, Path(folder), found)


def parse(text):
    """The instructions in order: stage, name in capitals, the rest. Comments and continued lines are undone."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    steps, stage = [], -1
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        stage += name.upper() == "FROM"
        steps.append((stage, name.upper(), " ".join(rest.split())))
    return steps


def of(steps, name, stage=None):
    return [rest for at, is_named, rest in steps if is_named == name and stage in (None, at)]


def bases(steps, found):
    """Each base has a tag of its own, or is a stage above."""
    arguments = dict(rest.split("=", 1) for rest in of(steps, "ARG", -1))
    for base in of(steps, "FROM"):
        named = re.sub(r"\$\{(\w+)\}", lambda name: arguments.get(name[1], ""), base.split()[0])
        tag = named.rpartition("/")[2].partition(":")[2]
        found.expect(tag and tag != "latest", f"the base {named} is not pinned by a tag")
        found.fact(f"base {named}")


def rules(root, steps, found):
    last = max(stage for stage, _, _ in steps)
    users = of(steps, "USER", last)
    found.expect(users == [f"{USER}:{USER}"], f"the last USER is {users} and not {USER}:{USER}")
    found.expect(not of(steps, "ADD"), "ADD fetches and unpacks unseen: use COPY")
    found.expect(not of(steps, "RUN", last), "the last stage has no shell to RUN anything")
    found.expect(not of(steps, "HEALTHCHECK"), "no command of the program is made for a HEALTHCHECK")
    for rest in of(steps, "RUN"):
        found.expect(not re.search(r"\b(curl|wget)\b", rest), f"fetched outside of cargo and its lock file: {rest}")
    for name in ("ENTRYPOINT", "CMD"):
        found.expect(all(rest.startswith("[") for rest in of(steps, name, last)), f"{name} needs a shell")
    labels = " ".join(of(steps, "LABEL", last))
    for label in ("title", "description", "licenses", "version", "revision"):
        found.expect(f"org.opencontainers.image.{label}=" in labels, f"there is no label for the {label}")
    package = tomllib.loads(text_of(root, "Cargo.toml"))["package"]
    found.expect(f"VERSION={package['version']}" in of(steps, "ARG", last), f"VERSION is not {package['version']}, as Cargo.toml has it")
    rust = f"rust:{package['rust-version']}-"
    found.expect(any(rust in rest for rest in of(steps, "ARG", -1)), f"no base is {rust}…, as Cargo.toml has it")


def built_from(root, steps, folder, found):
    """Lays out what the build stage sees, and looks whether cargo finds all of it there."""
    lay_out(root, context(root), folder / "context")
    for rest in of(steps, "COPY"):
        words = [word for word in rest.split() if not word.startswith("--")]
        if "--from=" in rest:
            continue
        for source in words[:-1]:
            found.expect((folder / "context" / source).exists(), f"COPY {source}: there is none, or .dockerignore keeps it away")
    copied = [word for rest in of(steps, "COPY", 0) for word in rest.split()[:-1] if not word.startswith("--")]
    stage = folder / "stage"
    stage.mkdir()
    for source in copied:
        take(folder / "context" / source, stage / source)
    left_over = {path.name for path in (folder / "context").iterdir()} - set(copied) - {"LICENSE"}
    found.expect(not left_over, f".dockerignore lets through what nothing copies: {sorted(left_over)}")
    code, said = output_of("cargo", "metadata", "--no-deps", "--offline", "--locked", "--format-version", "1", cwd=stage)
    if found.expect(code == 0, f"cargo can't read the build stage's package: {said}"):
        targets = json.loads(said.splitlines()[-1])["packages"][0]["targets"]
        there = {target["name"] for target in targets if Path(target["src_path"]).exists()}
        found.expect(wanted_by(root) <= there, f"cargo build would not find {sorted(wanted_by(root) - there)}")
        found.fact(f"cargo finds all {len(there)} targets of the package in what the Dockerfile copies")
    compiled_in(stage, found)


def wanted_by(root):
    """The targets that Cargo.toml names: cargo builds none of them when it misses one."""
    package = tomllib.loads(text_of(root, "Cargo.toml"))
    return {target["name"] for kind in ("bin", "bench", "example", "test") for target in package.get(kind, [])}


def compiled_in(stage, found):
    """Every file that the sources take in is in the build stage."""
    count = 0
    for source in (stage / "src").rglob("*.rs"):
        for path in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text(encoding="utf-8")):
            count += 1
            found.expect((source.parent / path).exists(), f"{source.relative_to(stage)} takes in {path}, which is not copied")
    found.fact(f"{count} files that are compiled in are there as well")


def context(root):
    """The files that .dockerignore lets through, by its rule: the last pattern that matches a path or a folder above it."""
    patterns = [line for line in text_of(root, ".dockerignore").splitlines() if line and not line.startswith("#")]
    for folder, folders, names in os.walk(root):
        at = Path(folder).relative_to(root)
        if at == Path("."):
            folders[:] = [name for name in folders if name not in (".git", "target", "mirror")]
        yield from (at / name for name in names if is_let_through(at / name, patterns))


def is_let_through(path, patterns):
    through = True
    for pattern in patterns:
        is_kept = pattern.startswith("!")
        if any(matches(part, pattern.lstrip("!")) for part in (path, *path.parents) if part != Path(".")):
            through = is_kept
    return through


def matches(path, pattern):
    """As Docker does it: an asterisk stays within its folder."""
    words = pattern.strip("/").split("/")
    return len(path.parts) == len(words) and all(map(fnmatchcase, path.parts, words))


def lay_out(root, paths, folder):
    folder.mkdir()
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)


def take(source, to):
    if source.is_dir():
        shutil.copytree(source, to)
    elif source.exists():
        shutil.copyfile(source, to)


def runs_by_hand(program, found):
    """The last stage by hand: a read-only root with the program and its libraries alone, and a user that is nobody."""
    code, said = output_of("ldd", program)
    needed = {Path(line.split()[0]).name: line for line in said.splitlines()}
    if not found.expect(code == 0, f"ldd {program}: {said}"):
        return
    strange = sorted(set(needed) - LIBRARIES)
    found.expect(not strange, f"the program needs what its base has not: {strange}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path in re.findall(r"(/\S+)", "\n".join(needed.values())):
            (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / path.lstrip("/"))
        (root / "program").hardlink_to(program) if same_disk(program, root) else shutil.copy(program, root / "program")
        root.chmod(0o755)
        inside = f'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec chroot --userspec={USER}:{USER} "$1" /program --version'
        code, said = output_of("unshare", "--mount", "sh", "-c", inside, "sh", root)
    if code != 0 and ("unshare" in said or "mount:" in said):
        found.fact(f"not tried, since this user may not mount: the program alone in a read-only root ({said})")
    elif found.expect(code == 0 and said.startswith("kops-mirror "), f"alone in a read-only root the program says: {code} {said}"):
        found.fact(f"{said} starts alone in a read-only root, as user {USER}, with {len(needed)} libraries")


def same_disk(one, other):
    return Path(one).stat().st_dev == Path(other).stat().st_dev
