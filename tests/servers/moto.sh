# moto: an emulator of AWS's APIs, from its Python package, every service and region at one address.
#
# It is here for provisioning: EC2, STS, SSM, EBS, S3. What it lacks, the tests put before it (tests/it/provision/overlay).
MOTO=$HOME_OF/venv/bin/moto_server
PORT=${KOPS_MIRROR_MOTO_PORT:-$(free_port)}

installed() {
  [ -x "$MOTO" ]
}

install_server() {
  python3 -m venv "$HOME_OF/venv"
  "$HOME_OF/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$SCRIPTS/moto.txt"
}

start_server() {
  MOTO_AMIS_PATH=$SCRIPTS/moto-amis.json daemon moto "$MOTO" -H 127.0.0.1 -p "$PORT"
}

tell_environment() {
  echo "export KOPS_MIRROR_TEST_MOTO=http://127.0.0.1:$PORT"
}
