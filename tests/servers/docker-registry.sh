# The distribution project's registry from the distribution's packages, with skopeo, which reads back what was pushed.
#
# It is here since everybody's registry is this one or speaks as it does: it refuses manifests before their parts, mounts, and wants
# every upload's state back.
PORT=$DOCKER_REGISTRY_PORT

installed() {
  command -v docker-registry skopeo >/dev/null
}

install_server() {
  local root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  "${root[@]}" apt-get update -q
  # The package starts a registry of its own, on a port of its own, where the system lets it: it is not used.
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends docker-registry skopeo
}

start_server() {
  cat >"$HOME_OF/data/registry.yml" <<YAML
version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: $HOME_OF/data/registry
  delete:
    enabled: true
http:
  addr: 127.0.0.1:$PORT
  secret: loopback
YAML
  daemon registry docker-registry serve "$HOME_OF/data/registry.yml"
}

tell_environment() {
  echo "export KOPS_MIRROR_TEST_REGISTRY=127.0.0.1:$PORT"
  echo "export KOPS_MIRROR_TEST_SKOPEO=$(command -v skopeo)"
}
