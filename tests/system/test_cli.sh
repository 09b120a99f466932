#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=120
#
# shmbus pub, sub and stat: the exact lines and exit statuses that scripts rely on.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib_programs.sh"

usage_errors() {
    local name=$1
    shift
    run shmbus "$@"
    is "$name: status" "$status" 2
    is "$name: one line on standard error" "$out$(wc -l <"$work/err")" 1
}

echo "# wrong usage"
run shmbus
like "no command: they are listed" "$err" "shmbus: .*pub, sub, stat.*"
is "no command: status" "$status" 2
run shmbus frobnicate
like "an unknown command: those that exist are listed" "$err" \
    "shmbus: there is no command 'frobnicate', but: pub, sub, stat"
is "an unknown command: status" "$status" 2
usage_errors "an unknown option" --frobnicate
usage_errors "an unknown option of a command" sub a --frobnicate
usage_errors "an option without its value" sub a -q
usage_errors "a value that is no number" sub a -C many
usage_errors "a queue that blocks" sub a --full block
like "a queue that blocks: why not" "$err" \
    "shmbus: sub: --full 'block': .*stall every publisher.*drop_oldest or reject_newest.*"
usage_errors "no pattern" sub
usage_errors "no topic" pub
usage_errors "no payload" pub a
usage_errors "two payloads" pub a b -l
usage_errors "a count of 0" pub a b --count 0
usage_errors "extra, which this version lacks" pub a b --extra k=v
usage_errors "an encoding that is not known" pub a b --encoding avro
usage_errors "an empty topic" pub "" x
usage_errors "arguments of stat" stat me
run shmbus --help
is "--help: status" "$status" 0
run shmbus pub --help
like "help of a command" "$out" "usage: shmbus pub .*"
run shmbus --version
like "--version" "$out" "shmbus [0-9]+\.[0-9]+\.[0-9]+"

echo "# no bus"
for command in "pub a x" "sub a" "stat"; do
    # shellcheck disable=SC2086
    run_is "$command without a bus" 1 "" "shmbus: ${command%% *}: no such bus $SHMBUS_BUS" \
        shmbus $command
done
run_is "-b wins over the environment" 1 "" "shmbus: stat: no such bus other-$$" \
    shmbus -b "other-$$" stat
run_is "the bus is default otherwise" 1 "" "shmbus: stat: no such bus default" \
    env -u SHMBUS_BUS shmbus stat
run_is "--wait ends" 1 "" "shmbus: pub: no such bus $SHMBUS_BUS" shmbus --wait 0.1 pub a x
run shmbus -b "no/bus" stat
is "a name that no bus can have: status" "$status" 2

echo "# --wait"
start early shmbus --wait 15 sub a -C 1
start_bus
said early
is "a subscriber that came before its bus" "$line" subscribed
run_is "pub prints nothing" 0 "" "" shmbus pub a hello
ended early
is "it received: status" "$status" 0
is "it received: output" "$(<"$work/early.out")" hello

echo "# payloads"
start_sub plain 'a/#' -C 5 -q 20
start_sub verbose 'a/#' -v -C 5 -q 20
shmbus pub a/1 one
shmbus pub 'a/=2' 'two words'
shmbus pub a/3 ""
shmbus pub 'a/\+' four
shmbus pub 'a/x y' -- -5
ended plain
is "payloads, a newline each" "$(<"$work/plain.out")" $'one\ntwo words\n\nfour\n-5'
ended verbose
is "-v: topics in text form" "$(<"$work/verbose.out")" \
    $'a/1 one\na/=2 two words\na/3 \na/\\x2b four\na/x\\x20y -5'

start_sub lines a -C 4 -q 10
printf 'one\n\n three \nlast' | shmbus pub a -l
ended lines
is "-l: a message a line, the empty one too" "$(<"$work/lines.out")" $'one\n\n three \nlast'

python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 300)' >"$work/bytes"
start_sub whole a -C 2
shmbus pub a -s <"$work/bytes"
shmbus pub a -f "$work/bytes"
ended whole
(cat "$work/bytes" && echo && cat "$work/bytes" && echo) >"$work/wanted"
ok "-s and -f: all bytes of a payload" cmp "$work/whole.out" "$work/wanted"
run_is "-f of a file that is not there" 1 "" \
    "shmbus: pub a: $work/none: No such file or directory" shmbus pub a -f "$work/none"

start_sub large a -C 1
head -c 30000000 /dev/zero | shmbus pub a -s
ended large
is "30 MB in one message" "$(wc -c <"$work/large.out")" 30000001
head -c 70000000 /dev/zero >"$work/huge"
start_sub large a
run shmbus pub a -f "$work/huge"
is "more than a connection's limit: status" "$status" 1
like "more than a connection's limit: the line" "$err" "shmbus: pub a: .*70000000.*"
kill -TERM "${pid_of[large]}"
ended large

start_sub counted a -C 3
run shmbus pub a x --count 3 --json
ended counted
is "--count" "$(<"$work/counted.out")" $'x\nx\nx'
is "pub --json: a line for each publish" "$(wc -l <"$work/out")" 3
is "pub --json: what became of it" \
    "$(head -n 1 "$work/out" | json 'd["topic"], d["matched"], d["refused"]')" "('a', 1, 0)"
began=$(date +%s%N)
run_is "--rate" 0 "" "" shmbus pub a x --count 5 --rate 20
ok "--rate: four pauses of 50 ms" [ $(($(date +%s%N) - began)) -ge 200000000 ]

echo "# wildcards"
for topic in 'a/+' '#' '+/b'; do
    run shmbus pub "$topic" x
    is "pub $topic: status" "$status" 2
    escaped=$(sed "s/.* write '\(.*\)'/\1/" <<<"$err")
    is "pub $topic: the line" "$err" "shmbus: pub $topic: a wildcard cannot be published to; if \
the token itself is meant, write '$escaped'"
    start_sub literal '#' -v -C 1
    shmbus pub "$escaped" x
    ended literal
    is "pub $topic: what it says to write works" "$(<"$work/literal.out")" "$escaped x"
done
run shmbus sub 'a/#/b'
is "a pattern that is none: status" "$status" 2
like "a pattern that is none: the line" "$err" "shmbus: sub a/#/b: .*"

echo "# several patterns"
start_sub both 'a/+' '+/b' 'c' -v -C 3 -q 10
shmbus pub a/b both
shmbus pub c one
shmbus pub d none
shmbus pub x/b other
ended both
is "a message that matches two arrives once" "$(<"$work/both.out")" $'a/b both\nc one\nx/b other'

echo "# full queues"
for policy in drop_oldest reject_newest; do
    start_sub slow a -q 2 --full $policy -C 3 --json
    freeze slow
    seq 5 | shmbus pub a -l
    is "$policy: drops are seen while the reader is stopped" \
        "$(stat_json '[(h["queued"], h["received"], h["dropped"]) for h in d["handles"]]')" \
        "[(2, 0, 3)]"
    is "$policy: the bus has counted them" "$(stat_json 'd["dropped"] >= 3')" True
    thaw slow
    # What is published now is received after what was queued: its reader must have made room.
    while [ "$(stat_json 'd["handles"][0]["queued"]')" -gt 0 ]; do :; done
    shmbus pub a 6
    ended slow
    python3 -c 'import json, sys
d = [json.loads(line) for line in sys.stdin]
print(*[m["payload"] for m in d], "lost", sum(m["lost_before"] for m in d))' \
        <"$work/slow.out" >"$work/got"
    if [ $policy = drop_oldest ]; then left="4 5"; else left="1 2"; fi
    is "$policy: what is left, and lost_before" "$(<"$work/got")" "$left 6 lost 3"
done
for length in 0 1048577; do
    run_is "a queue of $length" 2 "" \
        "shmbus: sub: -q '$length': a queue holds 1 to 1048576 messages" shmbus sub a -q $length
done

echo "# JSON"
start_sub object 'a/#' --json -C 2
shmbus pub 'a/=1' '{"x":1}' --encoding json
printf '\377\0' | shmbus pub a/x -s
ended object
head -n 1 "$work/object.out" >"$work/1"
tail -n 1 "$work/object.out" >"$work/2"
is "its keys" "$(json '" ".join(sorted(d))' "$work/1")" \
    "encoding lost_before origin payload payload_encoding replay seq topic"
is "topic and payload" \
    "$(json '[d[k] for k in ("topic", "payload", "payload_encoding", "encoding")]' "$work/1")" \
    "['a/=1', '{\"x\":1}', 'utf8', 'json']"
is "a payload that is no text" \
    "$(json '[d[k] for k in ("payload", "payload_encoding", "encoding")]' "$work/2")" \
    "['/wA=', 'base64', 'bytes']"
is "keys of the origin" "$(json '" ".join(sorted(d["origin"]))' "$work/1")" \
    "conn_id gid kind pid principal uid"
is "whose it is" "$(json '[d["origin"][k] for k in ("kind", "principal", "uid", "gid")]' "$work/1")" \
    "['local', '$(id -un)', $(id -u), $(id -g)]"
is "each process is a connection of its own" \
    "$(json 'len({json.loads(l)["origin"]["conn_id"] for l in open("'"$work/object.out"'")})' "$work/1")" 2

echo "# the end of a subscriber"
for signal in INT TERM; do
    start_sub ending a
    kill -$signal "${pid_of[ending]}"
    ended ending
    is "SIG$signal: a clean end" "$status" 0
done
start_sub timed a -W 0.5 -q 5
freeze timed
seq 3 | shmbus pub a -l
sleep 0.5 # its time is over while it is stopped
thaw timed
ended timed
is "-W: status" "$status" 3
is "-W: what is queued is printed first" "$(<"$work/timed.out")" $'1\n2\n3'
start_sub counts a -C 1 -W 15
shmbus pub a x
ended counts
is "-C before -W: status" "$status" 0
{
    shmbus sub a -q 10 2>"$work/piped.err"
    echo $? >"$work/piped.status"
} | head -n 1 >"$work/piped.out" &
while ! grep -q subscribed "$work/piped.err" 2>/dev/null; do :; done
shmbus pub a x
wait $!
is "a closed standard output: a clean end, also if nothing more comes" "$(<"$work/piped.status")" 0
is "a closed standard output: what was read before" "$(<"$work/piped.out")" x
run shmbus sub a -W 0 </dev/null
is "-W 0: status" "$status" 3

echo "# the end of a publisher"
mkfifo "$work/input"
exec {input}<>"$work/input"
start_sub reader a -C 1
stdin=$work/input start writer shmbus pub a -l
echo hello >&"$input"
ended reader
is "pub -l publishes a line when it comes" "$(<"$work/reader.out")" hello
kill -TERM "${pid_of[writer]}"
ended writer
is "SIGTERM: a clean end" "$status" 0
exec {input}<&-

echo "# stat"
start_sub shown 'a/+' b -q 7 --full reject_newest
start_sub single 'c/#'
shmbus stat --json >"$work/stat"
is "its keys" "$(json '" ".join(k for k in ("connections dropped publish_failed queue_len full_policy s_wild m_wild subscriptions retained retained_bytes retained_watches retained_views endpoints routes arena handles").split() if k not in d)' "$work/stat")" ""
is "connections and subscriptions; who asks is not counted" \
    "$(json 'd["connections"], d["subscriptions"]' "$work/stat")" "(2, 2)"
is "the defaults of the bus" \
    "$(json '[d[k] for k in ("queue_len", "full_policy", "s_wild", "m_wild")]' "$work/stat")" \
    "[10, 'drop_oldest', '+', '#']"
is "nothing of later versions" \
    "$(json 'sum(d[k] for k in ("retained", "retained_bytes", "retained_watches", "retained_views", "endpoints"))' "$work/stat")" 0
is "memory" "$(json '0 < d["arena"]["used"] <= d["arena"]["size"]' "$work/stat")" True
is "a handle" "$(json '[h for h in d["handles"] if "topic" in h] == [{"kind": "subscription", "topic": "c/#", "conn_id": [h["conn_id"] for h in d["handles"] if "topic" in h][0], "pid": '"${pid_of[single]}"', "queue_len": 10, "full": "drop_oldest", "queued": 0, "received": 0, "dropped": 0}]' "$work/stat")" True
is "a handle with several patterns" \
    "$(json '[[h[k] for k in ("patterns", "queue_len", "full", "pid")] for h in d["handles"] if "patterns" in h]' "$work/stat")" \
    "[[['a/+', 'b'], 7, 'reject_newest', ${pid_of[shown]}]]"
run shmbus stat
is "for people: status" "$status" 0
like "for people: the bus" "$out" "bus $SHMBUS_BUS: coordinator pid ${pid_of[bus]}"
like "for people: a handle" "$out" \
    " *${pid_of[shown]}  subscription  reject_newest  +7  +0  +0  +0  a/\+ b"

echo "# the end of the bus"
start_sub last a -q 5
freeze last
seq 3 | shmbus pub a -l
stop_bus
is "shmbusd ends cleanly" "$status" 0
thaw last
ended last
is "a subscriber prints what was queued" "$(<"$work/last.out")" $'1\n2\n3'
is "and fails" "$status" 1
said last
is "with the reason" "$line" "shmbus: sub a: bus_stopped"
ended shown
is "one with several patterns too: status" "$status" 1
said shown
is "and names them" "$line" "shmbus: sub a/+ b: bus_stopped"
ended single
is "nothing is left" "$(left)" ""

finish
