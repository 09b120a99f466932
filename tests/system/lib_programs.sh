# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# For tests of the programs: assertions that print TAP, programs in the background, a bus of their
# own. Sourced; the programs are in $PATH, or in $SHMBUS_BUILD.
#
# Nothing sleeps to synchronise: programs are waited for by the lines they print. All that a test
# starts ends with it, and its runtime directory and memory object must then be gone.
set -u

# A program that hangs ends the test: timeout's SIGTERM runs the trap below.
[ -n "${SHMBUS_TEST_GUARDED-}" ] || SHMBUS_TEST_GUARDED=1 exec timeout -k 5 100 bash "$0"

PATH=${SHMBUS_BUILD:-build}/tools:${SHMBUS_BUILD:-build}/examples:$PATH
command -v shmbusd >/dev/null && command -v shmbus >/dev/null || {
    echo "1..0 # skip: shmbusd and shmbus are not built"
    exit 77
}

work=$(mktemp -d)
mkdir -m 700 "$work/run"
export SHMBUS_RUNTIME_DIR=$work/run SHMBUS_BUS=test-$$
tests=0
failures=0
declare -A pid_of fd_of

cleanup() {
    local name
    trap - EXIT
    for name in "${!pid_of[@]}"; do
        kill -CONT "${pid_of[$name]}" 2>/dev/null
        kill -KILL "${pid_of[$name]}" 2>/dev/null
    done
    wait 2>/dev/null
    rm -f "/dev/shm/shmbus.$SHMBUS_BUS"*
    rm -rf "$work"
}
trap cleanup EXIT
trap 'echo "Bail out! ended from outside; these were running: ${!pid_of[*]}"; exit 1' INT TERM

# ok NAME COMMAND…: an assertion: the command succeeds.
ok() {
    local name=$1
    shift
    tests=$((tests + 1))
    if "$@"; then
        echo "ok $tests - $name"
    else
        failures=$((failures + 1))
        echo "not ok $tests - $name"
        return 1
    fi
}

# is NAME GOT WANTED
is() {
    if ! ok "$1" [ "$2" = "$3" ]; then
        printf '%s\n' "got: $2" "wanted: $3" | sed 's/^/#   /'
    fi
}

# like NAME GOT REGEX: a line of GOT matches, as a whole.
like() {
    if ! ok "$1" grep -qxE -- "$3" <<<"$2"; then
        printf '%s\n' "got: $2" "wanted, as a regular expression: $3" | sed 's/^/#   /'
    fi
}

# finish: the end of a test.
finish() {
    echo "1..$tests"
    echo "# $((tests - failures)) passed, $failures failed"
    [ "$failures" -eq 0 ]
    exit
}

# run COMMAND…: sets $status, $out and $err (without their last newline).
run() {
    status=0
    timeout -k 1 20 "$@" >"$work/out" 2>"$work/err" || status=$?
    out=$(<"$work/out")
    err=$(<"$work/err")
}

# run_is NAME STATUS OUT ERR COMMAND…: runs it, and asserts all that it did.
run_is() {
    local name=$1 wanted="$2|$3|$4"
    shift 4
    run "$@"
    is "$name" "$status|$out|$err" "$wanted"
}

# start NAME COMMAND…: in the background. Lines of standard error are for said; standard output goes
# to $work/NAME.out. Standard input is empty, or the file $stdin.
start() {
    local name=$1 fd
    shift
    rm -f "$work/$name.fifo"
    mkfifo "$work/$name.fifo"
    exec {fd}<>"$work/$name.fifo"
    fd_of[$name]=$fd
    # The program has the fifo as its standard error only, and nobody else's.
    "$@" <"${stdin:-/dev/null}" >"$work/$name.out" 2>"$work/$name.fifo" {fd}<&- &
    pid_of[$name]=$!
}

# said NAME: sets $line to the next line of its standard error; fails after 10 seconds without one.
said() {
    line=
    read -r -t 10 line <&"${fd_of[$1]}"
}

# start_sub NAME ARGUMENT…: a subscriber, once it is active.
start_sub() {
    local name=$1
    start "$name" shmbus sub "${@:2}"
    said "$name"
    [ "$line" = subscribed ] || ok "$name subscribes (it said: $line)" false
}

# start_bus [OPTION…]: shmbusd, once clients can attach. Its standard output is read here.
start_bus() {
    local fd
    rm -f "$work/bus.fifo"
    mkfifo "$work/bus.fifo"
    exec {fd}<>"$work/bus.fifo"
    fd_of[bus]=$fd
    shmbusd --runtime-dir "$SHMBUS_RUNTIME_DIR" "$@" "$SHMBUS_BUS" >"$work/bus.fifo" 2>"$work/bus.err" {fd}<&- &
    pid_of[bus]=$!
    said bus
    [ "$line" = "shmbusd: $SHMBUS_BUS ready" ] ||
        ok "the bus starts (it said: $line$(<"$work/bus.err"))" false
}

# ended NAME: waits for its end and sets $status.
ended() {
    status=0
    wait "${pid_of[$1]}" 2>/dev/null || status=$?
    unset "pid_of[$1]"
}

# stop_bus: SIGTERM, and waits; sets $status.
stop_bus() {
    kill -TERM "${pid_of[bus]}"
    ended bus
}

# freeze NAME: stops the process, and returns when it is stopped (or a zombie).
freeze() {
    local pid=${pid_of[$1]} stat
    kill -STOP "$pid"
    while read -r stat <"/proc/$pid/stat" && [[ ${stat##*)} != " "[TZ]* ]]; do
        :
    done
}

thaw() {
    kill -CONT "${pid_of[$1]}"
}

# json EXPRESSION [FILE]: a Python expression over d, the JSON object of a file (or standard input).
json() {
    python3 -c 'import json, sys
d = json.load(open(sys.argv[2]) if len(sys.argv) > 2 else sys.stdin)
print(eval(sys.argv[1]))' "$@"
}

# stat_json EXPRESSION: the same over the figures of the bus.
stat_json() {
    shmbus stat --json | json "$1"
}

# left: what the bus has left in memory and in its runtime directory.
left() {
    find /dev/shm "$SHMBUS_RUNTIME_DIR" -mindepth 1 \
        \( -path "$SHMBUS_RUNTIME_DIR/*" -o -name "shmbus.$SHMBUS_BUS*" \)
}
