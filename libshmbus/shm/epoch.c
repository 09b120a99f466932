/* SPDX-License-Identifier: Apache-2.0 */
/* The writer's side of epochs. The protocol and its argument are at the head of epoch.h. */
#include "shm/epoch.h"

void sb_epoch_init(struct sb_epoch_root *root)
{
    sb_store_relaxed(&root->broken, 0);
    sb_store_release(&root->epoch, 1);
}

void sb_epoch_advance(struct sb_epoch_root *root)
{
    /* Orders the unlinking before the new epoch; pairs with the load in sb_epoch_pin. */
    sb_store_release(&root->epoch, sb_epoch_tag(root));
}

uint64_t sb_epoch_oldest(const uint64_t *const *pins, size_t n)
{
    uint64_t oldest = UINT64_MAX;
    sb_fence_full(); /* unlinking before looking; pairs with the fence of sb_epoch_pin */
    for (size_t i = 0; i < n; i++) {
        uint64_t pinned = sb_load_acquire(pins[i]); /* pairs with the store of sb_epoch_unpin */
        if (pinned != 0 && pinned < oldest)
            oldest = pinned;
    }
    return oldest;
}

void sb_epoch_break(struct sb_epoch_root *root)
{
    sb_store_relaxed(&root->broken, sb_load_relaxed(&root->epoch) - 1);
    sb_fence_release(); /* before any reuse; pairs with the fence of sb_epoch_is_broken */
}
