#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=180 serial
#
# shmbus-bench measures, says it in the lines that scripts rely on, and leaves nothing behind; and
# the bus is no slower than half of what is promised, in bounces of one atomic between the same two
# cores: the median of three runs, each against the floor of its own run.
set -euo pipefail

# Promised: one to one, lossless, 64 bytes, queue 4096.
messages_a_bounce=5.0
bounces_a_round_trip=1.8

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
export TMPDIR=$temporary

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# refused STATUS WORDS COMMAND…   ends with the status, saying the words
refused() {
    local wanted=$1 words=$2 status=0 said
    shift 2
    said=$("$@" 2>&1) || status=$?
    [ "$status" -eq "$wanted" ] || fail "$*: exit $status, not $wanted: $said"
    [[ $said == *"$words"* ]] || fail "$*: says '$said', not '$words'"
}

# nothing_left PID-OF-THE-BENCH
nothing_left() {
    local left
    left=$(ls -A "$temporary")
    [ -z "$left" ] || fail "left: $left"
    left=$(find /dev/shm -maxdepth 1 -name "shmbus.bench-$1")
    [ -z "$left" ] || fail "left: $left"
}

refused 2 "no scenario nonsense; there are: throughput latency" shmbus-bench nonsense
refused 2 "measures no peers" shmbus-bench --peers lcm
refused 2 "from 8 to" shmbus-bench --size 7
refused 2 "reject_newest or drop_oldest" shmbus-bench --full block
refused 1 "no-such-bus" shmbus-bench throughput --bus no-such-bus --seconds 0.1

# Interrupted: it ends by the signal, with nothing left.
shmbus-bench throughput --seconds 60 &
bench=$!
until [ -n "$(find "$temporary" -name '*.sock' -print -quit)" ]; do
    kill -0 $bench || fail "it has ended before it was interrupted"
done
kill -TERM $bench
status=0
wait $bench || status=$?
[ "$status" -eq 143 ] || fail "interrupted: exit $status, not 143"
nothing_left $bench

# Several of each, and a reader that may lose some.
shmbus-bench throughput --json --seconds 0.2 --pubs 2 --subs 2 --queue 64 >"$temporary/lossless"
shmbus-bench throughput --json --seconds 0.2 --full drop_oldest --batch 1 >"$temporary/lossy"

seconds=1
if [ "${SHMBUS_TEST_LIGHT:-0}" = 1 ]; then seconds=0.3; fi
shmbus-bench throughput latency --json --repeat 3 --seconds $seconds >"$temporary/figures" &
bench=$!
wait $bench || fail "shmbus-bench: exit $?"
cat "$temporary/figures"

python3 - "$temporary" "$messages_a_bounce" "$bounces_a_round_trip" <<'END'
import json
import os
import pathlib
import sys

KEYS = ["scenario", "system", "size", "pubs", "subs", "mode", "msgs_per_s", "ns_per_publish",
        "p50_ns", "p99_ns", "p999_ns", "lost", "ratio_to_shmbus"]
directory = pathlib.Path(sys.argv[1])
promised_rate, promised_trip = map(float, sys.argv[2:])


def results(name):
    lines = [json.loads(line) for line in (directory / name).read_text().splitlines()]
    for line in lines:
        assert list(line) == KEYS, line
    return {(line["scenario"], line["system"], line["mode"]): line for line in lines}


found = results("figures")
assert list(found) == [
    ("throughput", "shmbus", "busy"), ("throughput", "floor-atomic", "busy"),
    ("throughput", "floor-memcpy", "busy"), ("throughput", "floor-spsc", "busy"),
    ("latency", "shmbus", "busy"), ("latency", "floor-atomic", "busy"),
    ("latency", "shmbus", "sleep"), ("latency", "floor-futex", "sleep")], list(found)
for key, line in found.items():
    figure = "msgs_per_s" if key[0] == "throughput" else "p50_ns"
    assert line[figure] > 0 and line["ratio_to_shmbus"] > 0, line
    if key[1] == "shmbus":
        assert line["ratio_to_shmbus"] == 1 and line["lost"] == 0, line

lossless = results("lossless")["throughput", "shmbus", "busy"]
assert (lossless["pubs"], lossless["subs"]) == (2, 2), lossless
assert lossless["lost"] == 0 and lossless["msgs_per_s"] > 0, lossless
assert results("lossy")["throughput", "shmbus", "busy"]["msgs_per_s"] > 0

rate = 1 / found["throughput", "floor-atomic", "busy"]["ratio_to_shmbus"]
trip = 1 / found["latency", "floor-atomic", "busy"]["ratio_to_shmbus"]
print(f"{rate:.2f} messages a bounce, {trip:.2f} bounces a round trip")
if os.environ.get("SHMBUS_TEST_LIGHT") == "1" or len(os.sched_getaffinity(0)) < 2:
    print("not judged: with sanitizers, or on one core")
    sys.exit(0)
if rate < promised_rate / 2 or trip > promised_trip * 2:
    sys.exit(f"FAILED: fewer than {promised_rate / 2}, or more than {promised_trip * 2}")
END

rm "$temporary"/{lossless,lossy,figures}
nothing_left $bench
