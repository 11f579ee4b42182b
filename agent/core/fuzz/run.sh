#!/usr/bin/env bash
# run.sh SECONDS: fuzzes each target for that long with libFuzzer, on the pinned stable toolchain.
# The coverage flags are those of cargo-fuzz; sanitizers would need a nightly compiler and the crate has no unsafe code.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?seconds for each target}
host=$(rustc -vV | sed -n 's/^host: //p')
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-../../../target}")/fuzz
export CARGO_TARGET_DIR
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table --cfg fuzzing" cargo build --release --locked --target "$host"
for target in law wire; do
  corpus=$CARGO_TARGET_DIR/corpus/$target
  mkdir -p "$corpus" "$CARGO_TARGET_DIR/artifacts"
  log=$CARGO_TARGET_DIR/$target.log
  if ! "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -max_len=1200 -timeout=10 \
    -artifact_prefix="$CARGO_TARGET_DIR/artifacts/$target-" "$corpus" >"$log" 2>&1; then
    tail -n 30 "$log"
    exit 1
  fi
  echo "fuzz $target: $(tail -n 1 "$log")"
done
