/* SPDX-License-Identifier: Apache-2.0 */
/* Control messages, lists of patterns and pages from hostile bytes; see unit/control_property.h. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "unit/control_property.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *broken = control_property(data, size);
    if (broken) {
        fprintf(stderr, "does not hold: %s\n", broken);
        abort();
    }
    return 0;
}
