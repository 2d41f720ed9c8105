# Sourced by ./up and ./test: one function per step. Each prints what it does and is quick the second time.

started=$SECONDS
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
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

need_rust() {
  command -v cargo >/dev/null || fail "cargo is not on the PATH; install Rust 1.95 or newer (https://rustup.rs) and run this again"
  local have
  have=$(rustc --version | cut -d' ' -f2)
  [ "$(printf '1.95.0\n%s\n' "$have" | sort -V | head -n1)" = 1.95.0 ] || fail "Rust $have is too old: 1.95 or newer is needed (rustup update stable)"
}

need_node() {
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then packages nodejs npm; fi
  local major
  major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
  [ "$major" -ge "${1:-18}" ] || fail "Node $major is too old: ${1:-18} or newer is needed (https://nodejs.org)"
}

# A browser for the tests: Debian's package; elsewhere (Ubuntu's package is a snap) Playwright's build.
need_chromium() {
  if [ -n "${ANTEROOM_E2E_CHROMIUM:-}" ] || command -v chromium >/dev/null; then return; fi
  if apt-cache show chromium 2>/dev/null | grep -q '^Homepage:.*chromium'; then packages chromium; return; fi
  step "Fetching a Chromium for the browser tests"
  (cd web && npm ci --no-audit --no-fund --loglevel=error && npx playwright-core install --with-deps chromium)
  ANTEROOM_E2E_CHROMIUM=$(cd web && node -e 'console.log(require("playwright-core").chromium.executablePath())')
  export ANTEROOM_E2E_CHROMIUM
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

build_release() {
  build_guest
  step "Building the server"
  cargo build --locked --release -p anteroom-cli
  install -m 0755 target/x86_64-unknown-linux-gnu/guest/anteroom-agent target/x86_64-unknown-linux-gnu/guest/anteroom-demo-cli target/release/
}
