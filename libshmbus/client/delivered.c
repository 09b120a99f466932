/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include <uuid/uuid.h>

#include "base/err.h"
#include "client/client.h"

/* One piece of memory: what is handed out, its strings, then the topic's decoded form. */
struct sb_delivered_memory {
    struct sb_delivered delivered;
    char conn_id[37];
    char principal[256];
    uint64_t topic[];
};

static int sb_delivered_gone(const struct shmbus_conn *conn)
{
    return sb_fail(SHMBUS_E_COORD, "bus %s: a record of the arena points outside of it",
                   conn->name);
}

/* Who published. Index 0 of the connections is the bus itself. */
static int sb_delivered_origin(struct sb_delivered_memory *memory, const struct shmbus_conn *conn,
                               const struct sb_conn_rec *publisher)
{
    struct sb_region arena = sb_conn_arena(conn);
    uint32_t len = publisher->principal_len;
    const char *principal = sb_arena_at(arena, publisher->principal, len);
    if (principal == NULL || len >= sizeof(memory->principal))
        return sb_delivered_gone(conn);
    memcpy(memory->principal, principal, len);
    uuid_unparse_lower(publisher->id, memory->conn_id);
    const void *bus = sb_table_at(arena, &conn->header->conns, 0, sizeof(*publisher));
    struct shmbus_origin *origin = &memory->delivered.origin;
    origin->kind = publisher == bus ? "bus" : "local";
    origin->conn_id = memory->conn_id;
    origin->principal = memory->principal;
    origin->principal_len = len;
    origin->uid = publisher->uid;
    origin->gid = publisher->gid;
    origin->pid = publisher->pid;
    return 0;
}

struct sb_delivered *sb_delivered_new(const struct shmbus_conn *conn,
                                      const struct sb_route_rec *route,
                                      const struct sb_conn_rec *publisher)
{
    uint8_t bytes[SB_TOPIC_MAX];
    size_t needed, len = route->topic_len;
    const uint8_t *topic = sb_arena_at(sb_conn_arena(conn), route->topic, len);
    if (topic == NULL || len > sizeof(bytes)) {
        sb_delivered_gone(conn);
        return NULL;
    }
    memcpy(bytes, topic, len); /* decoding checks it; what is checked must not change */
    if (sb_topic_decode(bytes, len, SB_TOPIC_CONCRETE, &conn->wildcards, NULL, 0, &needed, NULL))
        return NULL;
    struct sb_delivered_memory *memory = calloc(1, sizeof(*memory) + needed);
    if (memory == NULL) {
        sb_fail(SHMBUS_E_NOMEM, "no memory for the topic and origin of a message");
        return NULL;
    }
    if (sb_delivered_origin(memory, conn, publisher) ||
        sb_topic_decode(bytes, len, SB_TOPIC_CONCRETE, &conn->wildcards, memory->topic, needed,
                        NULL, &memory->delivered.topic)) {
        free(memory);
        return NULL;
    }
    /* Copied before the caller compares generations; pairs with the coordinator's release fence
     * behind the generation of a record that is to be used again. */
    sb_fence_acquire();
    return &memory->delivered;
}

void sb_delivered_free(struct sb_delivered *delivered)
{
    free(delivered); /* the first member of its memory */
}
