/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache of mapped segments.
 *
 * Who: any thread; everything happens under the connection's `control` lock, which is held from the
 * look-up to the end of the request, so that nothing is ever mapped twice.
 */
#include "client/mapping.h"

#include <stdlib.h>

#include "base/err.h"
#include "client/client.h"
#include "client/request.h"
#include "os/map.h"
#include "os/memfd.h"

static struct sb_mapping **sb_mapping_bucket(struct sb_mappings *mappings, uint32_t kind,
                                             uint32_t index, uint32_t gen)
{
    uint32_t hash = (index * 8 + kind) * 2654435761u ^ gen * 2246822519u;
    return &mappings->bucket[hash >> 26];
}

static struct sb_mapping *sb_mapping_find(struct sb_mappings *mappings, uint32_t kind,
                                          uint32_t index, uint32_t gen)
{
    struct sb_mapping *m = *sb_mapping_bucket(mappings, kind, index, gen);
    while (m && (m->index != index || m->gen != gen || m->kind != kind))
        m = m->next;
    return m;
}

/* Maps the descriptor that came for an item; the mapping in the cache has a reference more. */
static int sb_mapping_open(struct shmbus_conn *conn, const struct sb_map_item *item, int fd,
                           struct sb_mapping **opened)
{
    struct sb_mapping *m = sb_mapping_find(&conn->mappings, item->kind, item->index, item->gen);
    if (m) { /* pushed while it was asked for */
        m->refs++;
        *opened = m;
        return 0;
    }
    unsigned seals = item->kind == SB_MAP_HEAP ? SB_MEMFD_SEALS_HEAP : SB_MEMFD_SEALS_SIZE;
    bool writable = item->kind == SB_MAP_RINGS_WRITE || item->kind == SB_MAP_BELLS;
    int ret = sb_memfd_check(fd, item->size, seals);
    if (ret)
        return ret;
    m = malloc(sizeof(*m));
    if (m == NULL)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a mapping of bus %s", conn->name);
    void *base;
    ret = sb_map(fd, item->size, writable, &base);
    if (ret) {
        free(m);
        return ret;
    }
    struct sb_mapping **bucket =
        sb_mapping_bucket(&conn->mappings, item->kind, item->index, item->gen);
    *m = (struct sb_mapping){*bucket, item->kind, item->index, item->gen, 1, base, item->size};
    *bucket = m;
    *opened = m;
    return 0;
}

static void sb_mapping_put_held(struct shmbus_conn *conn, struct sb_mapping *m)
{
    if (m == NULL || --m->refs > 0)
        return;
    struct sb_mapping **at = sb_mapping_bucket(&conn->mappings, m->kind, m->index, m->gen);
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    sb_unmap(m->base, m->size);
    free(m);
}

void sb_mapping_put(struct shmbus_conn *conn, struct sb_mapping *mapping)
{
    if (mapping == NULL)
        return;
    sb_lock_acquire(&conn->control);
    sb_mapping_put_held(conn, mapping);
    sb_lock_release(&conn->control);
}

/* One request's worth of wants. */
union sb_mapping_list {
    struct sb_map_message message;
    uint8_t bytes[sizeof(struct sb_map_message) + SB_CONTROL_FDS * sizeof(struct sb_map_item)];
};

struct sb_mapping_batch {
    uint32_t opened;
    struct sb_mapping *mapping[SB_CONTROL_FDS];
    union sb_mapping_list list;
};

/* Puts a want on the list, unless it is there; false if there is no room. */
static bool sb_mapping_list(struct sb_map_message *list, const struct sb_mapping_want *want)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const struct sb_map_item *item = &list->item[i];
        if (item->kind == want->kind && item->index == want->index && item->gen == want->gen)
            return true;
    }
    if (list->count == SB_CONTROL_FDS)
        return false;
    list->item[list->count++] =
        (struct sb_map_item){.kind = want->kind, .index = want->index, .gen = want->gen};
    return true;
}

static int sb_mapping_nonsense(const struct shmbus_conn *conn)
{
    return sb_fail(SHMBUS_E_COORD,
                   "bus %s: the coordinator sent descriptors that were not asked for", conn->name);
}

/* Maps what the reply granted; the batch then has a reference on each. */
static int sb_mapping_adopt(struct shmbus_conn *conn, struct sb_mapping_batch *batch,
                            const struct sb_map_message *reply, struct sb_sock_fds *fds)
{
    if (reply->count != batch->list.message.count)
        return sb_mapping_nonsense(conn);
    for (uint32_t i = 0, fd = 0; i < reply->count; i++) {
        const struct sb_map_item *item = &reply->item[i];
        const struct sb_map_item *asked = &batch->list.message.item[i];
        if (item->kind != asked->kind || item->index != asked->index || item->gen != asked->gen)
            return sb_mapping_nonsense(conn);
        if (!item->found)
            continue;
        if (fd == fds->n)
            return sb_mapping_nonsense(conn);
        int ret = sb_mapping_open(conn, item, fds->fd[fd++], &batch->mapping[batch->opened]);
        if (ret)
            return ret;
        batch->opened++;
    }
    return 0;
}

/* Asks for what the batch lists. A bus that has ended has nothing more to give: no failure. */
static int sb_mapping_ask(struct shmbus_conn *conn, struct sb_mapping_batch *batch)
{
    union sb_mapping_list answer;
    SB_CLEANUP(sb_sock_fds_close) struct sb_sock_fds fds;
    fds.n = 0;
    size_t size =
        sizeof(batch->list.message) + batch->list.message.count * sizeof(struct sb_map_item);
    int ret = sb_request_held(conn, &batch->list.message, size, &answer.message,
                              sizeof(answer.bytes), &fds);
    if (ret == SHMBUS_E_DISCONNECTED)
        return 0;
    return ret ? ret : sb_mapping_adopt(conn, batch, &answer.message, &fds);
}

/* Takes references for the wants from..to that are in the cache; lists the others. Returns where it
 * stopped because the list was full. */
static size_t sb_mapping_resolve(struct shmbus_conn *conn, struct sb_mapping_want *wants,
                                 size_t from, size_t to, struct sb_map_message *list)
{
    for (; from < to; from++) {
        struct sb_mapping_want *want = &wants[from];
        if (want->mapping)
            continue;
        struct sb_mapping *m = sb_mapping_find(&conn->mappings, want->kind, want->index, want->gen);
        if (m) {
            m->refs++;
            want->mapping = m;
        } else if (list && !sb_mapping_list(list, want)) {
            break;
        }
    }
    return from;
}

/* Serves wants from *from on, as many as one request can. */
static int sb_mapping_get_some(struct shmbus_conn *conn, struct sb_mapping_want *wants,
                               size_t count, size_t *from)
{
    struct sb_mapping_batch batch;
    batch.opened = 0;
    batch.list.message = (struct sb_map_message){.head.type = SB_CONTROL_MAP};
    size_t to = sb_mapping_resolve(conn, wants, *from, count, &batch.list.message);
    int ret = 0;
    if (batch.list.message.count > 0) {
        ret = sb_mapping_ask(conn, &batch);
        if (ret == 0)
            sb_mapping_resolve(conn, wants, *from, to, NULL);
        while (batch.opened > 0)
            sb_mapping_put_held(conn, batch.mapping[--batch.opened]);
    }
    *from = to;
    return ret;
}

int sb_mapping_get(struct shmbus_conn *conn, struct sb_mapping_want *wants, size_t count)
{
    int ret = 0;
    for (size_t i = 0; i < count; i++)
        wants[i].mapping = NULL;
    sb_lock_acquire(&conn->control);
    for (size_t from = 0; ret == 0 && from < count;)
        ret = sb_mapping_get_some(conn, wants, count, &from);
    for (size_t i = 0; ret != 0 && i < count; i++) {
        sb_mapping_put_held(conn, wants[i].mapping);
        wants[i].mapping = NULL;
    }
    sb_lock_release(&conn->control);
    return ret;
}

void sb_mappings_keep(struct shmbus_conn *conn, const struct sb_map_message *pushed,
                      struct sb_sock_fds *fds)
{
    for (uint32_t i = 0, fd = 0; i < pushed->count && fd < fds->n; i++) {
        const struct sb_map_item *item = &pushed->item[i];
        struct sb_mapping *mapping;
        if (!item->found || item->kind != SB_MAP_HEAP)
            continue;
        /* The reference is the connection's, until its end. */
        int ret = sb_mapping_open(conn, item, fds->fd[fd++], &mapping);
        if (ret == SHMBUS_E_NOMEM)
            return;
    }
}

void sb_mappings_free(struct shmbus_conn *conn)
{
    for (size_t i = 0; i < sb_array_len(conn->mappings.bucket); i++) {
        struct sb_mapping *m = conn->mappings.bucket[i];
        while (m) {
            struct sb_mapping *next = m->next;
            sb_unmap(m->base, m->size);
            free(m);
            m = next;
        }
        conn->mappings.bucket[i] = NULL;
    }
}
