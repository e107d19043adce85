#!/usr/bin/env bash
# Installs a browser where there is none, and looks at the status page with it. Pictures are left in target/tmp/page.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

installed() {
  command -v chromium >/dev/null
}

if ! installed; then
  apt-get update -qq
  # The fonts are for the Chinese page.
  apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk
fi
KOPS_MIRROR_TEST_CHROMIUM=$(command -v chromium)
export KOPS_MIRROR_TEST_CHROMIUM
cargo test --test it -- web::browser::the_page --nocapture
