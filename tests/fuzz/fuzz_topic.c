/* SPDX-License-Identifier: Apache-2.0 */
/* Topics from hostile bytes and hostile text; see unit/topic_property.h. */
#include <stdio.h>
#include <stdlib.h>

#include "unit/topic_property.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *broken = topic_property(data, size);
    if (broken) {
        fprintf(stderr, "does not hold: %s\n", broken);
        abort();
    }
    return 0;
}
