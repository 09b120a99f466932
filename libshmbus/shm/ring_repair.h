/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring before it is used again.
 *
 * Who: the coordinator, for a ring that has no seat and that no route leads to any more. Producers
 * may be under way there for its last reader: they lose against it or are foreign to the next one.
 * Whoever was given the segment may write to it at any time; what that spoils later is found by
 * pushes and by the next repair.
 *
 * Death: a coordinator that dies in the middle leaves a ring that is not sound, which its successor
 * repairs before it uses it.
 */
#ifndef SB_SHM_RING_REPAIR_H
#define SB_SHM_RING_REPAIR_H

#include "shm/ring.h"

/*
 * Makes a ring that nobody reads usable, whatever has been written there: false, having changed
 * nothing, when it is as pushes leave a ring; true when it has begun anew, empty, in a lap that no
 * slot has seen. A push that is still under way for a former reader fails, or is foreign to the
 * next one, which skips it. Reads the whole ring. Not beside another repair.
 */
bool sb_ring_repair(struct sb_ring *mem, uint32_t capacity);

#endif
