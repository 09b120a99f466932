/* SPDX-License-Identifier: Apache-2.0 */
#include "client/publishing.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* sb_heap_grow_fn: the coordinator allocates, so that memory is charged before it is used. */
static int sb_publishing_grow(void *ctx, uint64_t size, uint64_t *now)
{
    struct sb_publishing *p = ctx;
    struct sb_grow_message message = {.head.type = SB_CONTROL_GROW, .size = size};
    struct sb_grow_message reply;
    int ret = sb_request(p->conn, &message, sizeof(message), &reply, sizeof(reply));
    if (ret)
        return sb_fail_prefix(ret, "the heap cannot grow to %llu bytes", (unsigned long long)size);
    if (reply.size < size || reply.size > p->conn->heap_limit)
        return sb_fail(SHMBUS_E_COORD, "the coordinator granted a heap of the wrong size");
    *now = reply.size;
    return 0;
}

int sb_publishing_new(struct shmbus_conn *conn, struct sb_publishing **publishing)
{
    struct sb_publishing *p = calloc(1, sizeof(*p));
    if (!p)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for the publishing side of a connection");
    p->conn = conn;
    p->epoch = &conn->header->epoch;
    p->no_epoch = SB_EPOCH_NEVER;
    int ret = sb_heap_init(&p->heap, conn->heap, sb_load_acquire(&conn->rec->heap_size),
                           conn->heap_limit, conn->index, conn->gen);
    if (ret) {
        free(p);
        return ret;
    }
    p->heap.grow = sb_publishing_grow;
    p->heap.refresh = sb_outlets_refresh;
    p->heap.unref = sb_outlets_unref;
    p->heap.ctx = p;
    p->heap.clock = &p->seq;
    uint64_t most = sb_heap_chunk_max(conn->heap_limit) - sizeof(struct sb_chunk);
    p->payload_max = most < UINT32_MAX / 2 ? most : UINT32_MAX / 2;
    *publishing = p;
    return 0;
}

void sb_publishing_free(struct sb_publishing *p)
{
    if (!p)
        return;
    for (uint32_t i = 0; i < p->route_buckets; i++) {
        while (p->routes[i]) {
            struct sb_route *route = p->routes[i];
            p->routes[i] = route->next;
            sb_lane_leave(&p->heap, &route->lane);
            free(route);
        }
    }
    free(p->routes);
    sb_heap_deinit(&p->heap);
    free(p);
}

void sb_publishing_disconnect(struct sb_publishing *p)
{
    if (!p)
        return;
    sb_lock_acquire(&p->conn->lock);
    p->epoch = &p->no_epoch;
    sb_lock_release(&p->conn->lock);
}
