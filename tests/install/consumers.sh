#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs to a directory of its own, moves the tree, and builds and runs a program against it:
# through pkg-config, and through find_package with the shared and the static library.
# Also with DESTDIR, as packagers do.
#
# usage: consumers.sh CMAKE BUILD-DIRECTORY C-COMPILER GENERATOR
set -euo pipefail
cmake=$1 build=$2 cc=$3 generator=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$cmake" --install "$build" --prefix "$work/first" >"$work/log"
mv "$work/first" "$work/prefix"
pc=$(find "$work/prefix" -name shmbus.pc)
libdir=$(dirname "$(dirname "$pc")")

echo "pkg-config"
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$pc")
# shellcheck disable=SC2046 # the flags are words
"$cc" -Wall -Werror "$here/consumer.c" -o "$work/consumer" $(pkg-config --cflags --libs shmbus)
LD_LIBRARY_PATH=$libdir "$work/consumer"
readelf -d "$work/consumer" | grep -q 'NEEDED.*\[libshmbus\.so\.0\]'

echo "find_package"
"$cmake" -S "$here" -B "$work/consumer-build" -G "$generator" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_PREFIX_PATH="$work/prefix" -Dshmbus_DIR="$libdir/cmake/shmbus" >>"$work/log"
"$cmake" --build "$work/consumer-build" >>"$work/log"
"$work/consumer-build/consumer-shared"
"$work/consumer-build/consumer-static"
if readelf -d "$work/consumer-build/consumer-static" | grep -q 'NEEDED.*libshmbus'; then
    echo "shmbus::shmbus_static links the shared library" >&2
    exit 1
fi

echo "DESTDIR"
DESTDIR=$work/root "$cmake" --install "$build" --prefix /opt/shmbus >>"$work/log"
test -f "$work/root/opt/shmbus/include/shmbus/shmbus.h"
if grep -rlF "$work" "$work/root/opt/shmbus"; then
    echo "an installed file names the directory that it was staged in" >&2
    exit 1
fi
