# Sourced by ./up, ./test and scripts/test_kvm.sh: one function per step. Each prints what it does and is quick the second time.

started=$SECONDS
built=${CARGO_TARGET_DIR:-target}
step() { printf '\n== %s (%ss)\n' "$*" "$((SECONDS - started))"; }
fail() { printf '\nerror: %s\n' "$*" >&2; exit 1; }

# Installs the missing Debian packages; the only step that needs root.
packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  if [ "${#missing[@]}" -eq 0 ]; then return; fi
  step "Installing packages: ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "these packages are missing, and sudo is not installed; as root run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  # Services of the packages (nginx, Caddy, Dante) are not started: the tests run the programs themselves.
  local policy=/usr/sbin/policy-rc.d own=
  if [ ! -e "$policy" ]; then
    own=1
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 0755 "$policy"
  fi
  local status=0
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || status=$?
  if [ -n "$own" ]; then "${as_root[@]}" rm -f "$policy"; fi
  return "$status"
}

need_rust() {
  command -v cargo >/dev/null || fail "cargo is not on the PATH; install Rust 1.95 or newer (https://rustup.rs) and run this again"
  local have
  have=$(rustc --version | cut -d' ' -f2)
  [ "$(printf '1.95.0\n%s\n' "$have" | sort -V | head -n1)" = 1.95.0 ] || fail "Rust $have is too old: 1.95 or newer is needed (rustup update stable)"
}

# Installs a program from the Cargo registry; further arguments are those of `cargo install`.
need_cargo_program() {
  if cargo "${1#cargo-}" --version >/dev/null 2>&1; then return; fi
  step "Installing $1"
  cargo install --locked "$@"
}

need_node() {
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then packages nodejs npm; fi
  local major
  major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
  [ "$major" -ge "${1:-18}" ] || fail "Node $major is too old: ${1:-18} or newer is needed (https://nodejs.org)"
}

# A browser for the tests: Debian's package; elsewhere (Ubuntu's package is a snap) Playwright's build.
need_chromium() {
  if [ -n "${ANTEROOM_E2E_CHROMIUM:-}" ]; then return; fi
  if ! command -v chromium >/dev/null && apt-cache show chromium 2>/dev/null | grep -q '^Homepage:.*chromium'; then packages chromium; fi
  if command -v chromium >/dev/null; then
    # The same without windows: the page tests use it where it is, since it needs less than half the processor time.
    if dpkg-query -W chromium >/dev/null 2>&1; then (packages chromium-headless-shell) || echo "chromium-headless-shell cannot be installed; the page tests take longer"; fi
    return
  fi
  step "Fetching a Chromium for the browser tests"
  (cd web && npm ci --no-audit --no-fund --loglevel=error && npx playwright-core install --with-deps chromium)
  ANTEROOM_E2E_CHROMIUM=$(cd web && node -e 'console.log(require("playwright-core").chromium.executablePath())')
  export ANTEROOM_E2E_CHROMIUM
}

# Firefox for the tests: Debian's package; elsewhere (Ubuntu has none, and its package of Firefox is a snap) Mozilla's build.
need_firefox() {
  if [ -n "${ANTEROOM_E2E_FIREFOX:-}" ] || command -v firefox-esr >/dev/null; then return; fi
  if apt-cache show firefox-esr 2>/dev/null | grep -q '^Package: firefox-esr'; then packages firefox-esr; return; fi
  step "Fetching a Firefox for the browser tests"
  (cd web && npm ci --no-audit --no-fund --loglevel=error && npx playwright-core install-deps firefox)
  ANTEROOM_E2E_FIREFOX=$(cd web && npx browsers install firefox@esr --path "${XDG_CACHE_HOME:-$HOME/.cache}/puppeteer" --format '{{path}}')
  export ANTEROOM_E2E_FIREFOX
}

# Builds the pages; skipped while their sources are unchanged.
build_pages() {
  local stamp now
  now=$(find web -path web/node_modules -prune -o -path web/dist -prune -o -path 'web/test-results' -prune -o -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
  stamp=web/dist/.source-hash
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then return; fi
  step "Building the pages"
  (cd web && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build)
  printf '%s\n' "$now" > "$stamp"
}

# Builds the guest's two programs: static, since they run without the image's libraries.
build_guest() {
  step "Building the guest's agent"
  RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --profile guest --target x86_64-unknown-linux-gnu -p anteroom-agent -p anteroom-demo --no-default-features --bins
}

# The program names no directory of this computer, so that it is the same wherever it is built.
build_release() {
  build_guest
  step "Building the server"
  local homes=("$PWD=." "${CARGO_HOME:-$HOME/.cargo}=cargo")
  RUSTFLAGS="${homes[*]/#/--remap-path-prefix=}" CFLAGS="${homes[*]/#/-ffile-prefix-map=}" cargo build --locked --release -p anteroom-cli
  install -m 0755 "$built"/x86_64-unknown-linux-gnu/guest/anteroom-{agent,demo-cli} "$built/release/"
}

# Builds the machine image with the debug build of the server; cached by the hash of its inputs. Sets ANTEROOM_TEST_IMAGE.
build_test_image() {
  step "The machine image (cached by the hash of its inputs)"
  local guest=$built/x86_64-unknown-linux-gnu/guest
  ANTEROOM_TEST_IMAGE=$("$built/debug/anteroom" image build --print-dir --agent "$guest/anteroom-agent" --demo-cli "$guest/anteroom-demo-cli")
  export ANTEROOM_TEST_IMAGE
}

# Checks the dependencies: licences, sources, bans, and known vulnerabilities where the advisory database (RustSec's repository on GitHub)
# can be had.
check_dependencies() {
  local checks="bans licenses sources" reason
  step "Licences, sources, bans and known vulnerabilities of dependencies"
  if reason=$(GIT_TERMINAL_PROMPT=0 timeout 120 cargo deny fetch db 2>&1); then
    checks="advisories $checks"
  else
    echo "not checked for known vulnerabilities: the advisory database cannot be fetched (${reason##*$'\n'})"
  fi
  # shellcheck disable=SC2086
  cargo deny --offline --log-level error check $checks
}

# Prepares the Python programs that test the API and the webhook. Sets ANTEROOM_TEST_PYTHON_TOOLS.
python_tools() {
  step "The programs that test the API (cached by the hash of scripts/python_tools.txt)"
  ANTEROOM_TEST_PYTHON_TOOLS=$(./scripts/python_tools.sh)
  export ANTEROOM_TEST_PYTHON_TOOLS
}

# Installs the packages that tests with machines and released tools need.
test_packages() {
  packages qemu-system-x86 mmdebstrap squashfs-tools uidmap debian-archive-keyring xz-utils build-essential ca-certificates \
    gdb tmux softhsm2 tigervnc-standalone-server python3-websockify python3-pip python3-venv iproute2 zsh fish groff-base openssl libnss3-tools \
    haproxy umoci skopeo runc lintian patroni etcd-server postgresql-client tinyproxy-bin microsocks dante-server mitmproxy nginx caddy curl jq tightvncserver x11vnc xfonts-base xvfb postgresql
  # Another package than Debian's may have brought it.
  command -v kubectl >/dev/null || packages kubernetes-client
}
