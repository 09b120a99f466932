/* SPDX-License-Identifier: Apache-2.0 */
/* The public words for why a handle is closed. */
#ifndef SB_CLIENT_WHY_H
#define SB_CLIENT_WHY_H

#include <stdint.h>

/* The word for an enum sb_reason: a static string, "" while open, "closed" for what a newer
 * coordinator may say. */
const char *sb_why_word(uint32_t reason);

#endif
