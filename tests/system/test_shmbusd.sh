#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=120
#
# shmbusd: its lines, its options, its end, and what it does about another one, dead or alive.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib_programs.sh"

# refused NAME REGEX ARGUMENT…: wrong usage, said in one line.
refused() {
    local name=$1 regex=$2
    shift 2
    run shmbusd "$@"
    is "$name: status" "$status" 2
    like "$name: the line" "$err" "shmbusd: $regex"
    is "$name: nothing else is said" "$out$(wc -l <"$work/err")" 1
}

echo "# wrong usage"
refused "no name" "the name of the bus is missing.*"
refused "two names" "one name of a bus is wanted.*" a b
refused "a name that is none" ".*" -- "-a/b"
refused "an unknown option" "'--frobnicate' .*" --frobnicate a
refused "a policy" "--policy 'x': this version has no authoriser.*" --policy x a
refused "a queue that blocks" "--full 'block': .*stall every publisher.*" --full block a
for length in 0 1048577; do
    refused "a queue of $length" "--queue-len '$length': a queue holds 1 to 1048576 messages" \
        --queue-len $length a
done
refused "a directory that clients cannot find" "--runtime-dir 'run': an absolute path .*" \
    --runtime-dir run a
refused "a size that is none" "--arena-size '1X': .*" --arena-size 1X a
refused "a mode that is none" "--mode '888': .*" --mode 888 a
refused "equal wildcards" ".*" --s-wild x --m-wild x "$SHMBUS_BUS"
refused "a wildcard that cannot be written" ".*" --s-wild $'\377' "$SHMBUS_BUS"
printf 'queue-len = 5\nfrobnicate = 1\n' >"$work/bad.conf"
refused "an unknown key" "$work/bad.conf:2: there is no option 'frobnicate'" \
    --config "$work/bad.conf" a
printf '[bus]\nmode = 0600\n' >"$work/bad.conf"
refused "a section" "$work/bad.conf:2: \[bus\]: there are no sections" --config "$work/bad.conf" a
refused "a file that is not there" "$work/none: No such file or directory" \
    --config "$work/none" a
refused "a directory" "$work: Is a directory" --config "$work" a
is "nothing is left of these" "$(left)" ""

other=()
[ "$(id -u)" -ne 0 ] || other=(setpriv --reuid 65534 --regid 65534 --clear-groups)
if "${other[@]}" shmbusd --version >/dev/null 2>&1; then
    for option in "--mode 0666" "--group 65534"; do
        # shellcheck disable=SC2086
        run "${other[@]}" shmbusd $option "$SHMBUS_BUS"
        is "$option by another user than root needs a runtime directory: status" "$status" 2
        like "$option by another user than root needs a runtime directory: the line" "$err" \
            "shmbusd: .*--runtime-dir"
    done
else
    echo "# not as another user: they cannot reach the programs here"
fi
run shmbusd --help
is "--help: status" "$status" 0
run shmbusd --version
like "--version" "$out" "shmbusd [0-9]+\.[0-9]+\.[0-9]+"

echo "# life and end"
for signal in TERM INT; do
    start_bus
    is "clients attach once it is ready" "$(stat_json 'd["connections"]')" 0
    kill -$signal "${pid_of[bus]}"
    ended bus
    is "SIG$signal: status" "$status" 0
    is "SIG$signal: nothing is left" "$(left)" ""
    is "SIG$signal: nothing was complained about" "$(<"$work/bus.err")" ""
done

echo "# a second one"
start_bus
run_is "a second coordinator is refused" 1 "" \
    "shmbusd: bus $SHMBUS_BUS already has a coordinator (pid ${pid_of[bus]})" \
    shmbusd --runtime-dir "$SHMBUS_RUNTIME_DIR" "$SHMBUS_BUS"
run_is "the first one is unharmed" 0 "" "" shmbus pub a x

echo "# a dead one"
mkfifo "$work/input"
exec {input}<>"$work/input"
start_sub survivor b -C 2
stdin=$work/input start writer shmbus pub b -l --json
echo before >&"$input"
while [ ! -s "$work/survivor.out" ]; do :; done # whose first message asks the coordinator
first=${pid_of[bus]}
kill -KILL "$first"
ended bus
ok "SIGKILL leaves something behind" [ -n "$(left)" ]
echo after >&"$input"
ended survivor
is "messages go on without a coordinator" "$(<"$work/survivor.out")" $'before\nafter'
kill -TERM "${pid_of[writer]}"
ended writer
exec {input}<&-
shmbus stat --json >"$work/stat"
is "stat without a coordinator: status" $? 0
is "stat without a coordinator: queues are unknown" \
    "$(json 'd["queues"], "handles" in d, d["queue_len"]' "$work/stat")" "('unknown', False, 10)"
start waiting shmbus --wait 15 sub a -C 1
start_bus
like "its successor takes over" "$(shmbus stat)" \
    "bus $SHMBUS_BUS: coordinator pid ${pid_of[bus]}"
ok "and is another process" [ "${pid_of[bus]}" != "$first" ]
said waiting
is "a client that waited for it attaches" "$line" subscribed
run_is "the bus works again: pub" 0 "" "" shmbus pub a hello
ended waiting
is "the bus works again: sub" "$(<"$work/waiting.out")" hello
stop_bus
is "its end: status" "$status" 0
is "its end: nothing is left" "$(left)" ""

echo "# options"
start_bus --queue-len 3 --full reject_newest --s-wild '*' --m-wild '**' --arena-size 64M
is "defaults and wildcards of the bus" \
    "$(stat_json '[d[k] for k in ("queue_len", "full_policy", "s_wild", "m_wild")]')" \
    "[3, 'reject_newest', '*', '**']"
start_sub reader 'a/*' -C 2 -v
run_is "what is a wildcard elsewhere is none here" 0 "" "" shmbus pub a/+ x
run shmbus pub 'a/**' x
is "and the other way round: status" "$status" 2
escaped=$(sed "s/.* write '\(.*\)'/\1/" <<<"$err")
run_is "escaped" 0 "" "" shmbus pub "$escaped" y
ended reader
is "both are received" "$(<"$work/reader.out")" "a/+ x
$escaped y"
stop_bus
cat >"$work/good.conf" <<'CONF'
; the same keys
queue-len = 4
full = reject_newest
m-wild = #
log-level = error
CONF
start_bus --queue-len 5 --config "$work/good.conf"
is "a file, over which the command line wins" \
    "$(stat_json 'd["queue_len"], d["full_policy"], d["m_wild"]')" "(5, 'reject_newest', '#')"
stop_bus
mkdir -m 700 "$work/elsewhere"
start_bus --runtime-dir "$work/elsewhere"
ok "--runtime-dir: the socket is there" [ -S "$work/elsewhere/$SHMBUS_BUS.sock" ]
run_is "--runtime-dir: clients find it by the bus's memory" 0 "" "" shmbus pub a x
stop_bus
is "--runtime-dir: nothing is left" "$(ls -A "$work/elsewhere")" ""
start_bus --mode 0660 --group "$(id -g)"
is "--mode" "$(stat -c %a "$SHMBUS_RUNTIME_DIR/$SHMBUS_BUS.sock")" 660
stop_bus

echo "# systemd"
cat >"$work/listen.py" <<'PYTHON'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace("@", "\0"))
s.settimeout(10)
print("listening", file=sys.stderr, flush=True)
print(s.recv(100).decode(), flush=True)
PYTHON
for address in "$work/notify" "@shmbus-test-$$"; do
    start systemd python3 "$work/listen.py" "$address"
    said systemd
    NOTIFY_SOCKET=$address start_bus
    ended systemd
    is "NOTIFY_SOCKET $(sed "s|$work/||" <<<"$address")" "$(<"$work/systemd.out")" READY=1
    stop_bus
done

finish
