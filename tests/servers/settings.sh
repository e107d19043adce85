# Where the test servers live and who may use them; sourced by the scripts beside it.
#
# Everything can be set from outside: KOPS_MIRROR_SERVERS (folder), KOPS_MIRROR_RGW_PORT, KOPS_MIRROR_SEAWEEDFS_PORT and
# KOPS_MIRROR_DOCKER_REGISTRY_PORT (each server also takes the 60 ports after its own); KOPS_MIRROR_MOTO_PORT, one that is free if unset.
set -euo pipefail

SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SERVERS=${KOPS_MIRROR_SERVERS:-$(cd "$SCRIPTS/../.." && pwd)/target/servers}
RGW_PORT=${KOPS_MIRROR_RGW_PORT:-17400}
SEAWEEDFS_PORT=${KOPS_MIRROR_SEAWEEDFS_PORT:-17500}
DOCKER_REGISTRY_PORT=${KOPS_MIRROR_DOCKER_REGISTRY_PORT:-17600}

# Good on loopback only; long enough for servers that check the form. Never those of the environment: they may be real.
export AWS_ACCESS_KEY_ID=loopbackkey000000001
export AWS_SECRET_ACCESS_KEY=loopbacksecret00000000000000000000000001
export AWS_REGION=us-east-1
unset AWS_SESSION_TOKEN AWS_PROFILE AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3

# Reads which server is meant and its functions: install_server, start_server, tell_environment, port.
choose() {
  case ${1:-} in
    rgw | seaweedfs | docker-registry | moto) NAME=$1 ;;
    *)
      echo "usage: $(basename "$0") rgw|seaweedfs|docker-registry|moto" >&2
      exit 2
      ;;
  esac
  HOME_OF=$SERVERS/$NAME
  PIDS=$HOME_OF/pids
  # shellcheck source=/dev/null
  . "$SCRIPTS/$NAME.sh"
}

# A port of loopback that nobody listens on.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Starts a daemon in a session of its own, and notes its id and its start time: an id alone may be somebody else's later.
daemon() {
  local log=$HOME_OF/$1.log
  shift
  setsid "$@" >"$log" 2>&1 </dev/null &
  echo "$! $(started_at $!)" >>"$PIDS"
}

# The time, in ticks since boot, at which a process started; nothing when there is none.
started_at() {
  sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20 || true
}

# Tries a command every 0.1 s for at most $1 seconds.
within() {
  local tries=$(($1 * 10))
  shift
  while ! "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ "$tries" -le 0 ]; then
      echo "not there in time: $*" >&2
      return 1
    fi
    sleep 0.1
  done
}

answers() {
  curl --silent --output /dev/null --max-time 2 "http://127.0.0.1:$1/"
}

# What tests want to know of a bucket's server; a server of another kind has its own.
tell_environment() {
  echo "export KOPS_MIRROR_TEST_S3=http://127.0.0.1:$PORT"
  echo "unset AWS_SESSION_TOKEN AWS_PROFILE AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3"
  echo "export AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY AWS_REGION=$AWS_REGION"
}
