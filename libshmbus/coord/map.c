/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/map.h"

#include "os/memfd.h"

/* A route of the connection leads to the ring, or did when it was live. */
static bool sb_coord_map_publishes(const struct sb_coord_conn *conn,
                                   const struct sb_coord_ring *ring)
{
    return ring->seats && sb_bitset_has(&ring->publishers, conn->index);
}

static bool sb_coord_map_rings_write(const struct sb_coord_conn *conn,
                                     const struct sb_coord_segment *segment)
{
    if (conn->state != SB_CONN_ATTACHED)
        return false;
    for (const struct sb_coord_ring *r = segment->rings; r; r = r->next_in_segment) {
        if (r->listed && sb_coord_map_publishes(conn, r))
            return true;
    }
    return false;
}

static bool sb_coord_map_rings_read(const struct sb_coord_conn *conn,
                                    const struct sb_coord_segment *segment)
{
    for (const struct sb_coord_seat *s = conn->seats; s; s = s->next_of_conn) {
        if (s->ring->segment == segment)
            return true;
    }
    return false;
}

/* The connection publishes to a ring that has this connection's bell. */
static bool sb_coord_map_rings_unshared(const struct sb_coord_conn *conn,
                                        const struct sb_coord_conn *reader)
{
    for (const struct sb_coord_seat *s = reader->seats; s; s = s->next_of_conn) {
        if (s->ring->full == SB_REJECT_NEWEST && sb_coord_map_publishes(conn, s->ring))
            return true;
    }
    return false;
}

static bool sb_coord_map_bells(const struct sb_coord_conn *conn,
                               const struct sb_coord_segment *segment)
{
    if (conn->bell.segment == segment)
        return true;
    for (uint32_t i = 0; i < sb_array_len(segment->bell_ring); i++) {
        const struct sb_coord_ring *ring = segment->bell_ring[i];
        const struct sb_coord_conn *reader = segment->bell_conn[i];
        if (ring && sb_coord_map_publishes(conn, ring))
            return true;
        if (reader && sb_coord_map_rings_unshared(conn, reader))
            return true;
    }
    for (const struct sb_coord_seat *s = conn->seats; s; s = s->next_of_conn) {
        if (s->ring->bell.segment == segment)
            return true;
    }
    return false;
}

static bool sb_coord_map_inbox(const struct sb_coord_conn *conn, const struct sb_coord_conn *reader)
{
    for (const struct sb_coord_seat *s = reader->seats; s; s = s->next_of_conn) {
        if (sb_coord_map_publishes(conn, s->ring))
            return true;
    }
    return false;
}

static bool sb_coord_map_heap_of(const struct sb_coord_conn *conn,
                                 const struct sb_coord_conn *publisher)
{
    for (const struct sb_coord_seat *s = conn->seats; s; s = s->next_of_conn) {
        if (sb_coord_map_publishes(publisher, s->ring))
            return true;
    }
    return false;
}

/* A segment of that kind and generation, or NULL. */
static struct sb_coord_segment *sb_coord_map_segment(const struct sb_coord *c,
                                                     const struct sb_map_item *item)
{
    uint32_t kind = item->kind == SB_MAP_BELLS ? SB_SEGMENT_BELLS : SB_SEGMENT_RINGS;
    struct sb_coord_segment *segment = sb_coord_table_object(&c->segments, item->index);
    return segment && segment->gen == item->gen && segment->kind == kind ? segment : NULL;
}

static int sb_coord_map_give_segment(struct sb_coord *c, const struct sb_coord_conn *conn,
                                     struct sb_map_item *item, struct sb_coord_fd *fd)
{
    const struct sb_coord_segment *segment = sb_coord_map_segment(c, item);
    bool allowed = false;
    if (segment && item->kind == SB_MAP_RINGS_WRITE)
        allowed = sb_coord_map_rings_write(conn, segment);
    else if (segment && item->kind == SB_MAP_RINGS_READ)
        allowed = sb_coord_map_rings_read(conn, segment);
    else if (segment)
        allowed = sb_coord_map_bells(conn, segment);
    if (!allowed)
        return 0;
    *fd = (struct sb_coord_fd){segment->fd, false};
    int ret = 0;
    if (item->kind == SB_MAP_RINGS_READ) {
        ret = sb_memfd_readonly(segment->fd, &fd->fd);
        fd->owned = true;
    }
    if (ret)
        return ret;
    item->size = segment->size;
    item->found = 1;
    return 0;
}

static int sb_coord_map_readonly(int memfd, uint64_t size, struct sb_map_item *item,
                                 struct sb_coord_fd *fd)
{
    int ret = sb_memfd_readonly(memfd, &fd->fd);
    if (ret)
        return ret;
    fd->owned = true;
    item->size = size;
    item->found = 1;
    return 0;
}

int sb_coord_map_heap(const struct sb_coord_conn *heap, struct sb_map_item *item,
                      struct sb_coord_fd *fd)
{
    item->kind = SB_MAP_HEAP;
    item->index = heap->index;
    item->gen = heap->gen;
    return sb_coord_map_readonly(heap->heap_fd, heap->coord->options.heap_limit, item, fd);
}

int sb_coord_map_item(struct sb_coord *c, const struct sb_coord_conn *conn,
                      struct sb_map_item *item, struct sb_coord_fd *fd)
{
    item->found = 0;
    item->size = 0;
    if (item->kind == SB_MAP_RINGS_WRITE || item->kind == SB_MAP_RINGS_READ ||
        item->kind == SB_MAP_BELLS)
        return sb_coord_map_give_segment(c, conn, item, fd);
    const struct sb_coord_conn *other = sb_coord_table_object(&c->conns, item->index);
    if (!other || other->gen != item->gen || !other->armed)
        return 0;
    if (item->kind == SB_MAP_INBOX && sb_coord_map_inbox(conn, other))
        return sb_coord_map_readonly(other->inbox_fd, SB_COORD_INBOX_LIMIT, item, fd);
    if (item->kind == SB_MAP_HEAP && sb_coord_map_heap_of(conn, other))
        return sb_coord_map_heap(other, item, fd);
    return 0;
}
