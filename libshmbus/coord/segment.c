/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/segment.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "os/map.h"
#include "os/memfd.h"
#include "shm/ring_repair.h"

#define SB_COORD_BELLS (SB_BELL_SEGMENT_SIZE / (uint32_t)sizeof(struct sb_bell))

struct sb_coord_user *sb_coord_user_find(struct sb_coord *c, uid_t uid)
{
    for (struct sb_coord_user *user = c->users; user; user = user->next) {
        if (user->uid == uid)
            return user;
    }
    struct sb_coord_user *user = calloc(1, sizeof(*user));
    if (!user) {
        (void)sb_fail(SHMBUS_E_NOMEM, "no memory for the account of user %u", (unsigned)uid);
        return NULL;
    }
    user->uid = uid;
    user->next = c->users;
    c->users = user;
    return user;
}

/* Creates, allocates, maps and seals the memory file. */
static int sb_coord_segment_create(struct sb_coord_segment *segment, struct sb_file_id *id)
{
    const char *name = segment->kind == SB_SEGMENT_RINGS ? "shmbus-rings" : "shmbus-bells";
    int ret = sb_memfd_create(name, segment->size, &segment->fd);
    if (ret)
        return ret;
    void *base = NULL;
    ret = sb_memfd_commit(segment->fd, 0, segment->size);
    if (ret == 0)
        ret = sb_memfd_seal(segment->fd);
    if (ret == 0)
        ret = sb_memfd_identity(segment->fd, id);
    if (ret == 0)
        ret = sb_map(segment->fd, segment->size, true, &base);
    if (ret)
        close(segment->fd);
    segment->base = base;
    return ret;
}

static void sb_coord_segment_publish(struct sb_coord *c, struct sb_coord_segment *segment,
                                     const struct sb_file_id *id)
{
    struct sb_segment_rec *rec = sb_coord_table_record(&c->segments, segment->index);
    rec->kind = segment->kind;
    rec->size = segment->size;
    rec->uid = segment->user->uid;
    rec->dev = id->dev;
    rec->ino = id->ino;
    segment->gen = rec->gen + 1;
    /* Odd: the fields before it are complete. */
    sb_store_release(&rec->gen, segment->gen);
}

static int sb_coord_segment_new(struct sb_coord *c, struct sb_coord_user *user, uint32_t kind,
                                uint64_t size, struct sb_coord_segment **made)
{
    struct sb_coord_segment *segment = calloc(1, sizeof(*segment));
    if (!segment)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a segment of user %u", (unsigned)user->uid);
    segment->user = user;
    segment->kind = kind;
    segment->size = size;
    struct sb_file_id id;
    int ret = sb_coord_segment_create(segment, &id);
    if (ret == 0) {
        ret = sb_coord_table_take(&c->segments, segment, &segment->index);
        if (ret) {
            sb_unmap(segment->base, segment->size);
            close(segment->fd);
        }
    }
    if (ret) {
        free(segment);
        return ret;
    }
    sb_coord_segment_publish(c, segment, &id);
    segment->next = user->segments;
    user->segments = segment;
    if (kind == SB_SEGMENT_RINGS)
        user->ring_bytes += size;
    *made = segment;
    return 0;
}

/* Frees a segment with its rings, and nothing that others see. */
static void sb_coord_segment_release(struct sb_coord_segment *segment)
{
    for (struct sb_coord_ring *ring = segment->rings, *next; ring; ring = next) {
        next = ring->next_in_segment;
        sb_bitset_deinit(&ring->publishers);
        free(ring->patterns);
        free(ring);
    }
    sb_unmap(segment->base, segment->size);
    close(segment->fd);
    free(segment);
}

static void sb_coord_segment_drop(struct sb_coord *c, struct sb_coord_segment *segment)
{
    struct sb_coord_segment **link = &segment->user->segments;
    while (*link != segment)
        link = &(*link)->next;
    *link = segment->next;
    if (segment->kind == SB_SEGMENT_RINGS)
        segment->user->ring_bytes -= segment->size;
    for (struct sb_coord_ring *ring = segment->rings; ring; ring = ring->next_in_segment)
        sb_coord_table_give(&c->rings, ring->index);
    struct sb_segment_rec *rec = sb_coord_table_record(&c->segments, segment->index);
    sb_store_release(&rec->gen, segment->gen + 1);
    sb_fence_release(); /* a reader that sees a field of the next use sees this generation, too */
    sb_coord_table_give(&c->segments, segment->index);
    sb_coord_segment_release(segment);
}

/* A segment of the user with that much room behind its rings, or a new one. */
static int sb_coord_ring_segment(struct sb_coord *c, struct sb_coord_user *user, uint64_t bytes,
                                 struct sb_coord_segment **found)
{
    for (struct sb_coord_segment *s = user->segments; s; s = s->next) {
        if (s->kind == SB_SEGMENT_RINGS && s->size - s->taken >= bytes) {
            *found = s;
            return 0;
        }
    }
    uint64_t size = SB_RING_SEGMENT_SIZE;
    if (bytes > size)
        size = sb_align_up(bytes, (uint64_t)sysconf(_SC_PAGESIZE));
    if (user->ring_bytes + size > SB_COORD_RING_BYTES)
        return sb_fail(SHMBUS_E_LIMIT,
                       "the queues of user %u take %" PRIu64 " bytes; %" PRIu64
                       " more are beyond the limit of %" PRIu64,
                       (unsigned)user->uid, user->ring_bytes, size, SB_COORD_RING_BYTES);
    return sb_coord_segment_new(c, user, SB_SEGMENT_RINGS, size, found);
}

static int sb_coord_ring_new(struct sb_coord *c, struct sb_coord_user *user, uint32_t capacity,
                             uint32_t full, struct sb_coord_ring **made)
{
    struct sb_coord_ring *ring = calloc(1, sizeof(*ring));
    if (!ring)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a queue");
    uint64_t bytes = sb_ring_bytes(capacity);
    int ret = sb_coord_table_take(&c->rings, ring, &ring->index);
    if (ret == 0) {
        ret = sb_coord_ring_segment(c, user, bytes, &ring->segment);
        if (ret)
            sb_coord_table_give(&c->rings, ring->index);
    }
    if (ret) {
        free(ring);
        return ret;
    }
    struct sb_coord_segment *segment = ring->segment;
    ring->offset = segment->taken;
    segment->taken += bytes;
    ring->next_in_segment = segment->rings;
    segment->rings = ring;
    struct sb_ring *mem = (void *)(segment->base + ring->offset);
    ring->view = sb_ring_view(mem, capacity);
    ring->full = full;
    const struct sb_ring_rec *rec = sb_coord_table_record(&c->rings, ring->index);
    ring->gen = rec->gen;
    *made = ring;
    return 0;
}

/* Ring memory that only this use fits. */
static struct sb_coord_ring *sb_coord_ring_again(const struct sb_coord_user *user,
                                                 uint32_t capacity, uint32_t full)
{
    for (const struct sb_coord_segment *s = user->segments; s; s = s->next) {
        if (s->kind != SB_SEGMENT_RINGS)
            continue;
        for (struct sb_coord_ring *ring = s->rings; ring; ring = ring->next_in_segment) {
            if (ring->gen % 2 == 0 && ring->view.capacity == capacity && ring->full == full)
                return ring;
        }
    }
    return NULL;
}

int sb_coord_ring_take(struct sb_coord *c, struct sb_coord_user *user, uint32_t capacity,
                       uint32_t full, struct sb_coord_ring **ring)
{
    struct sb_coord_ring *found = sb_coord_ring_again(user, capacity, full);
    if (!found) {
        int ret = sb_coord_ring_new(c, user, capacity, full, &found);
        if (ret)
            return ret;
    }
    /* Whoever could push to a reader in that segment may have left anything there. */
    (void)sb_ring_repair(found->view.mem, capacity);
    found->gen++;
    found->segment->used++;
    *ring = found;
    return 0;
}

void sb_coord_ring_give(struct sb_coord *c, struct sb_coord_ring *ring)
{
    struct sb_ring_rec *rec = sb_coord_table_record(&c->rings, ring->index);
    ring->gen++;
    sb_store_release(&rec->gen, ring->gen);
    /* A publisher that sees a field of the record's next use sees this generation, too. */
    sb_fence_release();
    if (--ring->segment->used == 0)
        sb_coord_segment_drop(c, ring->segment);
}

int sb_coord_bell_take(struct sb_coord *c, struct sb_coord_user *user, struct sb_coord_ring *ring,
                       struct sb_coord_conn *conn, struct sb_coord_bell *bell)
{
    struct sb_coord_segment *segment = user->segments;
    while (segment && (segment->kind != SB_SEGMENT_BELLS || segment->used == SB_COORD_BELLS))
        segment = segment->next;
    if (!segment) {
        int ret = sb_coord_segment_new(c, user, SB_SEGMENT_BELLS, SB_BELL_SEGMENT_SIZE, &segment);
        if (ret)
            return ret;
    }
    uint32_t index = (uint32_t)__builtin_ctzll(~segment->taken);
    segment->taken |= UINT64_C(1) << index;
    segment->used++;
    segment->bell_ring[index] = ring;
    segment->bell_conn[index] = conn;
    *bell = (struct sb_coord_bell){segment, index};
    return 0;
}

void sb_coord_bell_give(struct sb_coord *c, struct sb_coord_bell *bell)
{
    struct sb_coord_segment *segment = bell->segment;
    segment->taken &= ~(UINT64_C(1) << bell->index);
    segment->bell_ring[bell->index] = NULL;
    segment->bell_conn[bell->index] = NULL;
    if (--segment->used == 0)
        sb_coord_segment_drop(c, segment);
    bell->segment = NULL;
}

void sb_coord_bell_ring_all(struct sb_coord *c)
{
    sb_fence_full(); /* the reason to wake before the look at S; pairs with sb_bell_announce */
    for (struct sb_coord_user *user = c->users; user; user = user->next) {
        for (struct sb_coord_segment *s = user->segments; s; s = s->next) {
            struct sb_bell *bell = (void *)s->base;
            for (uint32_t i = 0; s->kind == SB_SEGMENT_BELLS && i < SB_COORD_BELLS; i++)
                sb_bell_ring(&bell[i], INT32_MAX);
        }
    }
}

void sb_coord_segment_close(struct sb_coord *c)
{
    for (struct sb_coord_user *user = c->users, *next_user; user; user = next_user) {
        next_user = user->next;
        for (struct sb_coord_segment *s = user->segments, *next; s; s = next) {
            next = s->next;
            sb_coord_segment_release(s);
        }
        free(user);
    }
    c->users = NULL;
}
