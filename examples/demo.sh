#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The demonstration: this machine's own telemetry on a bus of its own, 20 readings a second of every
# processor, interface and process, read by three subscribers, of which one is far too slow and one
# refuses what it has no room for. At the end the books of each queue are compared with what was
# published, message by message.
#
# usage: examples/demo.sh [BUILD-DIRECTORY]     ($SHMBUS_BUILD, else build)
# $DEMO_SECONDS is how long it publishes (8). Exit status 0 if every book balances.
set -euo pipefail

build=${1:-${SHMBUS_BUILD:-$(dirname "$0")/../build}}
PATH=$build/tools:$build/examples:$PATH
seconds=${DEMO_SECONDS:-8}
bus=demo-$$
work=$(mktemp -d)
mkfifo "$work/lines"
export SHMBUS_RUNTIME_DIR=$work/run SHMBUS_BUS=$bus
mkdir -m 700 "$SHMBUS_RUNTIME_DIR"

declare -A pids
clean() {
    local status=$?
    trap - EXIT
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
    rm -rf "$work"
    exit "$status"
}
trap clean EXIT
trap 'exit 1' INT TERM

die() {
    echo "demo: $*" >&2
    exit 1
}

# Both ends of the fifo are held open, so that a line can be waited for whoever writes it.
exec 3<>"$work/lines"

# wait_line NAME TEXT: until the program that was just started has said TEXT.
wait_line() {
    local line
    while read -r -t 10 line <&3; do
        [ "$line" != "$2" ] || return 0
        echo "$1: $line" >&2
    done
    die "$1 did not say '$2' within 10 seconds"
}

# subscriber NAME PATTERN POLICY QUEUE DELAY-MS: starts one.
names=()
declare -A pattern policy queue delay
subscriber() {
    names+=("$1")
    pattern[$1]=$2 policy[$1]=$3 queue[$1]=$4 delay[$1]=$5
    demo-sub --bus "$bus" --full "$3" --queue "$4" --delay-ms "$5" "$1" "$2" \
        >"$work/$1" 2>"$work/lines" 3<&- &
    pids[$1]=$!
    wait_line "$1" subscribed
}

# finish NAME: ends a program and gives its exit status.
finish() {
    local status=0 pid=${pids[$1]}
    kill "$pid" 2>/dev/null || true
    unset "pids[$1]"
    wait "$pid" || status=$?
    return "$status"
}

echo "== a bus, three subscribers, and $seconds seconds of telemetry"
shmbusd --runtime-dir "$SHMBUS_RUNTIME_DIR" "$bus" >"$work/lines" 3<&- &
pids[shmbusd]=$!
wait_line shmbusd "shmbusd: $bus ready"

subscriber everything '#' drop_oldest 65536 0
subscriber slow 'host/+/proc/#' drop_oldest 16 100
subscriber choosy 'host/+/cpu/+' reject_newest 8 150

telemetry --bus "$bus" --seconds "$seconds" >"$work/telemetry" 3<&- &
pids[telemetry]=$!

echo
echo "== a second of one topic: shmbus sub -v -C 20 'host/+/mem' | tail -n 3"
shmbus sub -v -C 20 -W "$seconds" 'host/+/mem' 2>/dev/null | tail -n 3 |
    sed -E 's/^(.{96}).+/\1…/' || true

echo
echo "== shmbus stat"
shmbus stat

status=0
wait "${pids[telemetry]}" || status=$?
unset "pids[telemetry]"
echo
cat "$work/telemetry"
[ "$status" -eq 0 ] || die "telemetry has failed"

# What was published, by kind: words and numbers in turn.
declare -A published
read -r -a words <"$work/telemetry"
for ((i = 1; i + 1 < ${#words[@]}; i += 2)); do
    published[${words[i]}]=${words[i + 1]}
done
[ "${published[failed]}" -eq 0 ] || die "${published[failed]} readings could not be published"
published[all]=$((published[cpu] + published[mem] + published[net] + published[proc]))
declare -A expected=(
    [everything]=${published[all]} [slow]=${published[proc]} [choosy]=${published[cpu]})

bad=()
wrong() {
    bad+=("$*")
}

row='%-11s %-14s %-14s %6s %6s %9s %9s %9s %7s %8s %s\n'
echo
# shellcheck disable=SC2059
printf "$row" subscriber pattern policy queue delay published offered received queued dropped balance
for name in "${names[@]}"; do
    finish "$name" || wrong "$name: exit status $?"
    declare -A book=()
    read -r -a words <"$work/$name" || wrong "$name: printed nothing"
    for ((i = 1; i + 1 < ${#words[@]}; i += 2)); do
        book[${words[i]}]=${words[i + 1]}
    done
    balance=${book[balance]:-none}
    [ "${book[offered]:-}" = "${expected[$name]}" ] || balance="not what was published"
    [ "$balance" = right ] || wrong "$name: the books are $balance"
    [ "${book[received]:-0}" -gt 0 ] || wrong "$name: received nothing"
    # shellcheck disable=SC2059
    printf "$row" "$name" "${pattern[$name]}" "${policy[$name]}" "${queue[$name]}" \
        "${delay[$name]}ms" "${expected[$name]}" "${book[offered]:-}" "${book[received]:-}" \
        "${book[queued]:-}" "${book[dropped]:-}" "$balance"
    [ "$name" != slow ] || [ "${book[dropped]:-0}" -gt 0 ] || wrong "slow: dropped nothing"
done

finish shmbusd || wrong "shmbusd: exit status $?"
left=$(find "$SHMBUS_RUNTIME_DIR" -mindepth 1 && find /dev/shm -name "shmbus.$bus*")
[ -z "$left" ] || wrong "left behind: $left"

echo
if [ ${#bad[@]} -gt 0 ]; then
    printf 'demo: %s\n' "${bad[@]}" >&2
    exit 1
fi
echo "Every book balances: published = offered = received + queued + dropped. Nothing is left behind."
