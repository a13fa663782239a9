#!/usr/bin/env bash
# Makes .venv from requirements.txt with the first Python 3.10 to 3.14 that can. `make` calls it each time; it does
# nothing while .venv is complete, no older than requirements.txt, and its Python works. `tools/setup.sh test` also
# installs requirements-test.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

works() { # .venv was completed, and its Python, which may have been upgraded or removed since, still runs it
  [ -f .venv/installed ] && .venv/bin/python -c \
    'import pip, sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

complete() { # the stamp is newer than all that decides what is installed
  local file
  for file in tools/setup.sh requirements.txt "${@:2}"; do [ "$1" -nt "$file" ] || return 1; done
}

install() { # what a file of requirements names
  if ! .venv/bin/python -m pip install --disable-pip-version-check -r "$1"; then
    echo "error: pip could not install $1 into .venv and says why above; correct it and run make again" >&2
    exit 2
  fi
}

# All files at once, so that an optional package cannot change the version of another.
test_files=(requirements-test.txt requirements-export.txt requirements-trackers.txt)
install_for_tests() {
  if complete .venv/installed_for_tests "${test_files[@]}"; then return; fi
  rm -f .venv/installed_for_tests
  install requirements-test.txt
  touch .venv/installed_for_tests
}

finish() {
  if [ "${1:-}" = test ]; then install_for_tests; fi
  exit 0
}

if works && complete .venv/installed; then finish "$@"; fi

# Prints why a Python cannot be used, and nothing if it can. Any Python can run it.
check='
import sys
version = "%d.%d" % sys.version_info[:2]
if not (3, 10) <= sys.version_info[:2] <= (3, 14):
    print("is Python %s, not 3.10 to 3.14" % version)
else:
    try:
        import ensurepip, venv
    except ImportError:
        print("lacks the venv module (on Debian and Ubuntu: sudo apt install python%s-venv)" % version)
'

python= problem=
for candidate in ${PYTHON3:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
  command -v "$candidate" >/dev/null || continue
  reason=$("$candidate" -c "$check" 2>/dev/null) || reason="does not run"
  if [ -z "$reason" ]; then python=$candidate; break; fi
  # A Python of the right version that only lacks venv is nearer to what is wanted than another one.
  if [ -z "$problem" ] || [[ $reason == lacks* && $problem != *lacks* ]]; then problem="$candidate $reason"; fi
done
if [ -z "$python" ]; then
  : "${problem:="${PYTHON3:-python3} is not there (on Debian and Ubuntu: sudo apt install python3-venv)"}"
  echo "error: no Python 3.10 to 3.14 to make .venv with: $problem; another is named by" \
    "make PYTHON3=/path/to/python3.13" >&2
  exit 2
fi

if ! works; then
  echo "setting up .venv with $("$python" --version) (once; a few minutes)"
  "$python" -m venv --clear .venv
fi
rm -f .venv/installed # until all is done: after an interruption, the set-up starts again
install requirements.txt
touch .venv/installed
finish "$@"
