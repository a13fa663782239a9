#!/usr/bin/env bash
# Makes .venv from requirements.txt with the first Python 3.10 to 3.12 that can; `make` calls it when that file changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usable() { # a Python of the right version that can make virtual environments with pip
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

python=
for candidate in ${PYTHON3:-} python3 python3.12 python3.11 python3.10; do
  if command -v "$candidate" >/dev/null && usable "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
  echo "error: no Python 3.10 to 3.12 with venv found; on Debian: sudo apt install python3-venv" \
    "(or name one: make PYTHON3=/path/to/python3.11)" >&2
  exit 2
fi

echo "setting up .venv with $("$python" --version) (once; a few minutes)"
[ -x .venv/bin/python ] && usable .venv/bin/python || "$python" -m venv --clear .venv
.venv/bin/python -m pip install --disable-pip-version-check -r requirements.txt
touch .venv/installed
