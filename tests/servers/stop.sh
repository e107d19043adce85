#!/usr/bin/env bash
# Stops what start.sh started, the last first, and removes its data: stop.sh rgw|seaweedfs|docker-registry|moto.
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
choose "$@"
[ -s "$PIDS" ] || exit 0

ours() {
  [ -n "$2" ] && [ "$(started_at "$1")" = "$2" ]
}

gone() {
  ! ours "$@"
}

while read -r pid started; do
  ours "$pid" "$started" || continue
  kill "$pid"
  within 2 gone "$pid" "$started" 2>/dev/null || kill -KILL "$pid"
done < <(tac "$PIDS")
rm -rf "$PIDS" "$HOME_OF/data"
