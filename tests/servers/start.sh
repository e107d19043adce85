#!/usr/bin/env bash
# Starts one installed server on 127.0.0.1 with empty data: start.sh rgw|seaweedfs|docker-registry|moto. Prints the environment that the tests
# want, so: eval "$(tests/servers/start.sh rgw)"
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
choose "$@"

"$SCRIPTS/stop.sh" "$NAME"
if answers "$PORT"; then
  echo "port $PORT is somebody else's; set KOPS_MIRROR_$(tr a-z- A-Z_ <<<"$NAME")_PORT" >&2
  exit 1
fi
rm -rf "$HOME_OF/data"
mkdir -p "$HOME_OF/data"

failed() {
  tail -n 5 "$HOME_OF"/*.log >&2 || true
  "$SCRIPTS/stop.sh" "$NAME"
  echo "can't start $NAME" >&2
  exit 1
}
trap failed ERR
start_server
within 60 answers "$PORT"

tell_environment
