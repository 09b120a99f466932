#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=60 slow
#
# The demonstration, shortened: every book balances.
DEMO_SECONDS=2 exec bash "$(dirname "$0")/../../examples/demo.sh"
