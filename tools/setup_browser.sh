#!/usr/bin/env bash
# Sets up what the test of the viewer needs: .venv, playwright in it, and a Chromium. One that is there is taken:
# $CHROMIUM, or the first of chromium, chromium-browser and google-chrome; otherwise Debian's is installed by apt-get.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash tools/setup.sh

fail() {
  echo "error: $*" >&2
  exit 2
}

repeat() { # a command, up to three times: mirrors and networks fail now and then
  local attempt
  for attempt in 1 2 3; do
    if "$@"; then return 0; fi
    if [ "$attempt" -lt 3 ]; then sleep "$((attempt * ${PAUSE:-10}))"; fi
  done
  return 1
}

repeat .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-browser.txt ||
  fail "pip could not install requirements-browser.txt into .venv and says why above; correct it and run" \
    "tools/setup_browser.sh again"

find_chromium() { # the same programs as tests/support/browser.py looks for
  local program
  for program in chromium chromium-browser google-chrome; do
    if command -v "$program"; then return 0; fi
  done
  return 1
}

if [ -n "${CHROMIUM:-}" ]; then
  command -v "$CHROMIUM" >/dev/null || fail "CHROMIUM=$CHROMIUM is no program; name a Chromium, or unset it"
  exit 0
fi
if find_chromium >/dev/null; then exit 0; fi

by_hand="install Chromium or Google Chrome, or name one with CHROMIUM=/path/to/chromium"
command -v apt-get >/dev/null || fail "no Chromium on this machine, and no apt-get to install it with: $by_hand"
root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "no Chromium on this machine, and only root can install it: $by_hand"
  root=(sudo)
fi
echo "installing Chromium with apt-get (once; 100 MB)"
install() {
  "${root[@]}" apt-get update -qq &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
}
repeat install || fail "apt-get could not install chromium and says why above: $by_hand"
find_chromium >/dev/null || fail "apt-get has installed chromium, but no program of this name is there: $by_hand"
