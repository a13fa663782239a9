#!/usr/bin/env bash
# Runs the tests of the native code with the library compiled for the sanitizers of the compiler: accesses outside of
# tensors and other undefined behaviour end the run with a report. `bash tools/sanitize.sh thread`: races instead.
# What follows goes to pytest; TWODPASS_FUZZ=2000 draws more inputs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kind=address
case "${1:-}" in address | thread)
  kind=$1
  shift
  ;;
esac
compiler=${CXX:-g++}
flags="-fno-sanitize-recover=all -fno-omit-frame-pointer -g"
case $kind in
address)
  flags="-fsanitize=address,undefined $flags"
  libraries="libasan.so libubsan.so"
  ;;
thread)
  flags="-fsanitize=thread $flags"
  libraries=libtsan.so
  ;;
esac

# The sanitizer has to be there before Python allocates anything.
preloaded=
for name in $libraries; do
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
# Python and PyTorch leak on purpose, and PyTorch's OpenMP waits in ways that the race detector does not understand.
env LD_PRELOAD="$preloaded" TWODPASS_NATIVE=required TWODPASS_NATIVE_FLAGS="$flags" OMP_NUM_THREADS=1 \
  ASAN_OPTIONS="detect_leaks=0:log_path=$logs/report" UBSAN_OPTIONS="print_stacktrace=1:log_path=$logs/report" \
  TSAN_OPTIONS="log_path=$logs/report:ignore_noninstrumented_modules=1" \
  .venv/bin/python -m pytest -p no:faulthandler tests/network/native tests/network/sparse/test_convolution.py \
  --deselect tests/network/native/test_compiling.py -k "not forks" "$@" || code=$?
cat "$logs"/report.* 2>/dev/null && exit 1
exit "$code"
