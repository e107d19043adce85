#!/usr/bin/env bash
# Installs a fuzzer of APIs and Prometheus' linter where there are none, and lets both loose on the server.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
VERSION=4.32.5
HOME_OF=target/tmp/schemathesis-$VERSION

if ! command -v promtool >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends prometheus
fi
if [[ ! -x $HOME_OF/bin/schemathesis ]]; then
  python3 -m venv "$HOME_OF"
  "$HOME_OF/bin/pip" install --quiet "schemathesis==$VERSION"
fi
KOPS_MIRROR_TEST_PROMTOOL=$(command -v promtool)
KOPS_MIRROR_TEST_SCHEMATHESIS=$PWD/$HOME_OF/bin/schemathesis
export KOPS_MIRROR_TEST_PROMTOOL KOPS_MIRROR_TEST_SCHEMATHESIS
cargo test --test it -- web::browser::the_api web::browser::prometheus --nocapture
