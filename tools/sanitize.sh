#!/usr/bin/env bash
# Runs the tests of the native code with the library compiled for the sanitizers of the compiler: an access outside of a
# tensor, or other undefined behaviour, ends the run with a report. What follows goes to pytest; TWODPASS_FUZZ=2000
# draws more inputs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compiler=${CXX:-g++}
# The sanitizers have to be there before Python allocates anything.
preloaded=
for name in libasan.so libubsan.so; do
  path=$($compiler -print-file-name="$name" 2>/dev/null) || path=
  if [ ! -e "$path" ]; then
    echo "error: $compiler has no $name; install the sanitizers of your compiler (on Debian and Ubuntu they come with" \
      "g++), or name a compiler that has them with CXX" >&2
    exit 2
  fi
  preloaded+="$path "
done

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
code=0
# Leaks are not looked for: Python and PyTorch leave memory to the end of the process. A forked process is not tried,
# because the sanitizers have a thread of their own; nor what the memory of the C library does, which they replace.
env LD_PRELOAD="$preloaded" TWODPASS_NATIVE=required OMP_NUM_THREADS=1 \
  TWODPASS_NATIVE_FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g" \
  ASAN_OPTIONS="detect_leaks=0:log_path=$logs/report" UBSAN_OPTIONS="print_stacktrace=1:log_path=$logs/report" \
  .venv/bin/python -m pytest -p no:faulthandler tests/network/native tests/network/sparse/test_convolution.py \
  --deselect tests/network/native/test_compiling.py --deselect tests/network/native/test_memory.py -k "not forks" "$@" || code=$?
if cat "$logs"/report.* 2>/dev/null; then exit 1; fi
exit "$code"
