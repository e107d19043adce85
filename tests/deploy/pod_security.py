"""The restricted profile of Kubernetes' Pod Security Standards, and what we ask of a pod beyond it.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SECCOMP = {"RuntimeDefault", "Localhost"}


def check(name, pod, found):
    """A pod's spec; problems go by the name of what it is in."""

    def expect(holds, problem):
        found.expect(holds, f"{name}: {problem}")

    whole = pod.get("securityContext", {})
    for switch in ("hostNetwork", "hostPID", "hostIPC"):
        expect(not pod.get(switch), f"{switch} is on")
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        expect(kinds <= VOLUMES, f"the volume {volume['name']} is a {kinds}")
    expect(not whole.get("sysctls"), "it sets sysctls")
    expect(pod.get("automountServiceAccountToken") is False, "it gets a token for Kubernetes' API")
    expect(pod.get("enableServiceLinks") is False, "Kubernetes sets KOPS_MIRROR_… variables in it")
    for container in pod.get("initContainers", []) + pod["containers"]:
        of_container(name, container, whole, found)


def of_container(name, container, whole, found):
    own = container.get("securityContext", {})

    def expect(holds, problem):
        found.expect(holds, f"{name}/{container['name']}: {problem}")

    def either(setting):
        return own.get(setting, whole.get(setting))

    expect(not own.get("privileged"), "it is privileged")
    expect(own.get("allowPrivilegeEscalation") is False, "allowPrivilegeEscalation is not false")
    expect(own.get("readOnlyRootFilesystem") is True, "its root can be written")
    expect(either("runAsNonRoot") is True, "runAsNonRoot is not true")
    expect(either("runAsUser") not in (None, 0), "runAsUser is no user's number")
    expect((either("seccompProfile") or {}).get("type") in SECCOMP, "it has no seccomp profile")
    capabilities = own.get("capabilities", {})
    expect("ALL" in capabilities.get("drop", []), "it does not drop ALL capabilities")
    expect(set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}, "it adds capabilities")
    expect(not any(port.get("hostPort") for port in container.get("ports", [])), "it takes a port of the host")
    expect("memory" in container.get("resources", {}).get("limits", {}), "its memory has no limit")
    expect("memory" in container.get("resources", {}).get("requests", {}), "it asks for no memory")
