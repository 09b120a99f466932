/* SPDX-License-Identifier: Apache-2.0 */
#include "client/why.h"

#include "shm/layout.h"

const char *sb_why_word(uint32_t reason)
{
    switch (reason) {
    case SB_REASON_NONE:
        return "";
    case SB_REASON_UNSUBSCRIBED:
        return "unsubscribed";
    case SB_REASON_DISCONNECTED:
        return "disconnected";
    case SB_REASON_BUS_STOPPED:
        return "bus_stopped";
    case SB_REASON_REVOKED:
        return "revoked";
    default:
        return "closed";
    }
}
