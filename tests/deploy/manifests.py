"""Checks config/kubernetes/: each way to run it as kubectl renders it, against the API's schemas and against itself."""

import re
import tomllib
from pathlib import Path

import kubernetes_validate
import yaml

import operator_schema
import pod_security
from findings import output_of, text_of

FOLDER = "config/kubernetes"
WAYS = ("", "account", "volume", "daemon", "scheduled", "bulk", "monitoring")
# The oldest that has all the fields used here, one between, and the newest whose schemas are there.
VERSIONS = ("1.29", "1.34", "1.37")
OPERATOR = "monitoring.coreos.com/v1"
DRAIN_SECONDS = 30
# What people make themselves, as the README says.
MADE_BY_HAND = {"Secret/kops-mirror-token"}
GIB = 1 << 30


def check(root, found):
    rendered = {}
    for way in WAYS:
        code, said = output_of("kubectl", "kustomize", Path(root) / FOLDER / way)
        if found.expect(code == 0, f"kubectl kustomize {FOLDER}/{way}: {said}"):
            rendered[way] = [document for document in yaml.safe_load_all(said) if document]
    if found.problems:
        return
    example = yaml.safe_load(text_of(root, f"{FOLDER}/daemon/token.example.yaml"))
    found.expect(example["stringData"] == {"token": "REPLACE-ME"}, "the example of a token is something else than REPLACE-ME")
    schemas([*(document for way in rendered.values() for document in way), example], found)
    operators(rendered["monitoring"], found)
    every_file_is_used(root, rendered, found)
    for way in ("daemon", "scheduled", "bulk"):
        for document in rendered[way]:
            by_itself(document, found)
        references(way, rendered[way], found)
    the_settings(root, rendered["account"], found)
    the_daemon(rendered["daemon"], rendered["monitoring"], found)
    the_others(rendered["scheduled"], rendered["bulk"], found)
    found.expect(rendered[""] == rendered["daemon"], f"{FOLDER} is not the daemon's")


def named(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def schemas(documents, found):
    """The strict ones: a field that the API does not know is an error."""
    once = {named(document): document for document in documents if document["apiVersion"] != OPERATOR}
    for name, document in once.items():
        found.expect("namespace" not in document["metadata"], f"{name} has a namespace, which whoever applies it chooses")
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                at = ".".join(str(word) for word in error.absolute_path)
                found.problem(f"{name} is not valid in Kubernetes {version}: {at}: {error.message[:300]}")
            except kubernetes_validate.SchemaNotFoundError as error:
                found.problem(f"{name}: {error.message}")
    found.fact(f"{len(once)} objects are valid by the strict schemas of Kubernetes {', '.join(VERSIONS)}: {', '.join(sorted(once))}")


def operators(documents, found):
    """The Prometheus operator's kinds: its published schema lets unknown fields pass, so those that we use are listed here."""
    known = {"selector", "endpoints"}, {"port", "path", "interval", "scrapeTimeout"}
    for document in documents:
        operator_schema.expect_valid(document, found)
        strange = set(document["spec"]) - known[0]
        for endpoint in document["spec"].get("endpoints", []):
            strange |= set(endpoint) - known[1]
        found.expect(not strange, f"{named(document)} has fields that we do not know: {sorted(strange)}")


def every_file_is_used(root, rendered, found):
    """A manifest that no kustomization names is checked by nobody."""
    kinds = {(document["kind"], document["metadata"]["name"]) for way in rendered.values() for document in way}
    for path in sorted((Path(root) / FOLDER).rglob("*.yaml")):
        if path.name in ("kustomization.yaml", "token.example.yaml"):
            continue
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        found.expect((document["kind"], document["metadata"]["name"]) in kinds, f"no kustomization uses {path.name}")


def pod_of(document):
    """The pod's template in a Deployment, Job or CronJob."""
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template") if document["kind"] in ("Deployment", "Job", "CronJob") else None


def by_itself(document, found):
    template = pod_of(document)
    if not template:
        return
    name, pod = named(document), template["spec"]
    pod_security.check(name, pod, found)
    found.fact(f"{name} keeps Pod Security's restricted profile")
    grace = pod.get("terminationGracePeriodSeconds", 0)
    found.expect(grace > DRAIN_SECONDS, f"{name}: {grace} s cut a drain of {DRAIN_SECONDS} s short")
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in pod["containers"]:
        mounts = container.get("volumeMounts", [])
        found.expect({mount["name"] for mount in mounts} == volumes, f"{name}: its volumes and its mounts are not the same")
        found.expect(re.search(r":[\w.-]+$", container["image"]), f"{name}: {container['image']} has no tag")
        for argument in container["args"]:
            path = re.fullmatch(r"--(?:config|state|spool|token-file)=(/.*)", argument)
            found.expect(
                not path or any((path[1] + "/").startswith(mount["mountPath"] + "/") for mount in mounts),
                f"{name}: nothing is mounted for {argument}",
            )


def references(way, documents, found):
    there = {named(document) for document in documents} | MADE_BY_HAND
    for document in documents:
        template = pod_of(document)
        if not template:
            continue
        pod = template["spec"]
        wanted = {f"ServiceAccount/{pod['serviceAccountName']}"}
        for volume in pod["volumes"]:
            if "configMap" in volume:
                wanted.add(f"ConfigMap/{volume['configMap']['name']}")
            if "secret" in volume:
                wanted.add(f"Secret/{volume['secret']['secretName']}")
            if "persistentVolumeClaim" in volume:
                wanted.add(f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}")
        found.expect(wanted <= there, f"{way}: {named(document)} refers to what is not there: {sorted(wanted - there)}")
        for other in documents:
            if other["kind"] == "NetworkPolicy":
                selects(named(other), other["spec"]["podSelector"]["matchLabels"], template["metadata"]["labels"], found)


def selects(name, selector, labels, found):
    found.expect(selector.items() <= labels.items(), f"{name} does not select {labels}")


def the_settings(root, documents, found):
    """The settings in the ConfigMap are some that there are, and their spool fits into the volumes."""
    text = next(document["data"]["mirror.toml"] for document in documents if document["kind"] == "ConfigMap")
    every = text_of(root, "config/mirror.toml")
    ours = tomllib.loads(text)
    for name in [*(key for key in ours if not isinstance(ours[key], dict)), *(key for table in ours.values() if isinstance(table, dict) for key in table)]:
        found.expect(re.search(rf"^(# )?{name} = ", every, re.M), f"mirror.toml has a setting that there is not: {name}")
    account = next(document for document in documents if document["kind"] == "ServiceAccount")
    role = account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    found.expect(re.fullmatch(r"arn:aws-cn:iam::\d{12}:role/[\w+=,.@/-]+", role), f"{role} is no role of AWS China")


def spool_limit(documents):
    text = next(document["data"]["mirror.toml"] for document in documents if document["kind"] == "ConfigMap")
    return gibibytes(tomllib.loads(text)["spool"]["limit"].replace("GiB", "Gi"))


def gibibytes(quantity):
    return int(quantity.removesuffix("Gi")) if quantity.endswith("Gi") else int(quantity) / GIB


def one(documents, kind):
    return next(document for document in documents if document["kind"] == kind)


def the_daemon(documents, monitoring, found):
    deployment, service = one(documents, "Deployment"), one(documents, "Service")
    template, spec = deployment["spec"]["template"], deployment["spec"]
    container = template["spec"]["containers"][0]
    found.expect(spec["replicas"] == 1 and spec["strategy"]["type"] == "Recreate", "two daemons would write one volume")
    selects("the Deployment", spec["selector"]["matchLabels"], template["metadata"]["labels"], found)
    selects("the Service", service["spec"]["selector"], template["metadata"]["labels"], found)
    probes = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe, path in probes.items():
        asked = container.get(probe, {}).get("httpGet", {})
        found.expect(asked == {"path": path, "port": "http"}, f"the {probe} asks {asked}")
    listens = next((word.rpartition(":")[2] for word in container["args"] if word.startswith("--listen=0.0.0.0:")), None)
    found.expect(listens == str(ports.get("http")), f"it listens on {listens} and its port is {ports}")
    found.expect(service["spec"]["ports"][0]["targetPort"] == "http", "the Service goes to another port")
    claim = one(documents, "PersistentVolumeClaim")["spec"]["resources"]["requests"]["storage"]
    found.expect(gibibytes(claim) > spool_limit(documents), f"a spool of {spool_limit(documents)} GiB does not fit into {claim}")
    monitor = one(monitoring, "ServiceMonitor")["spec"]
    selects("the ServiceMonitor", monitor["selector"]["matchLabels"], service["metadata"]["labels"], found)
    served = {port["name"] for port in service["spec"]["ports"]}
    found.expect({endpoint["port"] for endpoint in monitor["endpoints"]} <= served, f"the ServiceMonitor asks a port that is not of {served}")
    found.expect(service["metadata"]["name"] == "kops-mirror", "the job of its metrics is not kops-mirror, which alerts go by")


def the_others(scheduled, bulk, found):
    nightly, shared = one(scheduled, "CronJob")["spec"], one(bulk, "Job")["spec"]
    found.expect(nightly["concurrencyPolicy"] == "Forbid", "the CronJob begins runs beside one that is under way")
    found.expect(shared["completionMode"] == "Indexed", "the Job's pods have no index")
    pods = shared["completions"]
    found.expect(shared["parallelism"] <= pods, "more pods at once than there are shares")
    arguments = shared["template"]["spec"]["containers"][0]["args"]
    found.expect(f"--shard=$(JOB_COMPLETION_INDEX)/{pods}" in arguments, f"{pods} pods do not share by {arguments}")
    for job in (nightly["jobTemplate"]["spec"], shared):
        found.expect(job["template"]["spec"]["restartPolicy"] == "Never", "podFailurePolicy needs restartPolicy: Never")
        codes = [rule["onExitCodes"]["values"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
        found.expect(codes == [[2]], f"only 2 says that another try is of no use, not {codes}")
    spool = next(volume["emptyDir"]["sizeLimit"] for volume in shared["template"]["spec"]["volumes"] if "emptyDir" in volume)
    found.expect(gibibytes(spool) > spool_limit(bulk), f"a spool of {spool_limit(bulk)} GiB does not fit into {spool}")
