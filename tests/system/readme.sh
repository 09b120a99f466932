#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=120 no-asan no-tsan
#
# The programs that README.md prints are those of examples/. They are compiled against an installed
# tree by the commands that it prints, and run as it prints them, on a bus that is called demo as
# there. Not with sanitizers: a plain program cannot load a library that was built with one.
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${SHMBUS_BUILD:-$root/build}" && pwd)
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib_programs.sh"

# block FENCE TEXT: the code block of README.md with this fence that comes after TEXT.
block() {
    awk -v fence="\`\`\`$1" -v text="$2" '
        index($0, text) { near = 1 }
        $0 == "```" && inside { exit }
        inside { print }
        $0 == fence && near { inside = 1 }' "$root/README.md"
}

taken=$(SHMBUS_BUS=demo shmbus stat --json 2>/dev/null | json '"handles" in d' 2>/dev/null)
if [ "$taken" = True ]; then
    echo "1..0 # skip: this machine has a bus called demo, which the printed programs would use"
    exit 77
fi

echo "# as printed"
for name in publisher subscriber; do
    block c "examples/$name.c" >"$work/$name.c"
    ok "README.md prints examples/$name.c" diff -u "$root/examples/$name.c" "$work/$name.c" ||
        finish
    lines=$(wc -l <"$work/$name.c")
    ok "$name.c: $lines lines" [ "$lines" -le 20 ]
done

echo "# compiled by the printed commands"
cmake --install "$build" --prefix "$work/prefix" >"$work/log" ||
    ok "the tree is installed" false
pc=$(find "$work/prefix" -name shmbus.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH")
PATH=$work/prefix/bin:$PATH
export PKG_CONFIG_PATH LD_LIBRARY_PATH
commands=$(block sh "compile them" | grep '^cc ')
is "two commands compile them" "$(grep -c . <<<"$commands")" 2
while read -r command; do
    run bash -c "cd '$work' && $command -Wall -Wextra -Werror"
    is "$command" "$status|$err" "0|"
done <<<"$commands"

echo "# run as printed"
run "$work/publisher"
is "without a bus: status" "$status" 1
is "without a bus: the sentence" "$err" "publisher: no such bus demo"
SHMBUS_BUS=demo start_bus
start subscriber bash -c 'exec "$0" >&2' "$work/subscriber"
# The subscriber says nothing before its first message; the publisher says when it is there.
until run "$work/publisher" && [ "$status|$out" != "0|published to 0 queues" ]; do
    :
done
transcript=$(block text "in a shell")
is "the publisher prints what README.md says" "$status|$out" \
    "0|$(grep -x 'published to [0-9]* queues' <<<"$transcript")"
said subscriber
is "and so does the subscriber" "$line" "$(grep '^room/' <<<"$transcript")"
stop_bus
is "the bus ends" "$status" 0
said subscriber
is "the subscriber says why it ends" "$line" "subscriber: bus_stopped"
ended subscriber
is "and fails" "$status" 1
is "nothing is left" "$(find "$SHMBUS_RUNTIME_DIR" /dev/shm/shmbus.demo{,.lock} -mindepth 0 \
    ! -path "$SHMBUS_RUNTIME_DIR" 2>/dev/null)" ""

finish
