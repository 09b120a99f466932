/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/control.h"

#include <stdbool.h>
#include <string.h>

#include "base/err.h"

static const char *const sb_control_names[SB_CONTROL_TYPES] = {
    [SB_CONTROL_HELLO] = "hello",         [SB_CONTROL_ARMED] = "armed",
    [SB_CONTROL_SUBSCRIBE] = "subscribe", [SB_CONTROL_UNSUBSCRIBE] = "unsubscribe",
    [SB_CONTROL_LEAVE] = "leave",         [SB_CONTROL_ROUTE] = "route",
    [SB_CONTROL_UNROUTE] = "unroute",     [SB_CONTROL_MAP] = "map",
    [SB_CONTROL_GROW] = "grow",           [SB_CONTROL_DISCONNECT] = "disconnect",
    [SB_CONTROL_BUS_STATS] = "bus_stats", [SB_CONTROL_HANDLES] = "handles",
    [SB_CONTROL_CONNS] = "conns",         [SB_CONTROL_HEAPS] = "heaps",
};

/* The fixed part of each type's request and reply; 0: there is no such message. */
static const struct {
    uint16_t request, reply;
} sb_control_sizes[SB_CONTROL_TYPES] = {
    [SB_CONTROL_HELLO] = {sizeof(struct sb_hello_request), sizeof(struct sb_hello_reply)},
    [SB_CONTROL_ARMED] = {sizeof(struct sb_control_head), sizeof(struct sb_control_head)},
    [SB_CONTROL_SUBSCRIBE] = {sizeof(struct sb_subscribe_request),
                              sizeof(struct sb_subscribe_reply)},
    [SB_CONTROL_UNSUBSCRIBE] = {sizeof(struct sb_seat_request), sizeof(struct sb_control_head)},
    [SB_CONTROL_LEAVE] = {sizeof(struct sb_seat_request), sizeof(struct sb_control_head)},
    [SB_CONTROL_ROUTE] = {sizeof(struct sb_route_request), sizeof(struct sb_route_reply)},
    [SB_CONTROL_UNROUTE] = {sizeof(struct sb_unroute_request), sizeof(struct sb_control_head)},
    [SB_CONTROL_MAP] = {sizeof(struct sb_map_message), sizeof(struct sb_map_message)},
    [SB_CONTROL_GROW] = {sizeof(struct sb_grow_message), sizeof(struct sb_grow_message)},
    [SB_CONTROL_DISCONNECT] = {sizeof(struct sb_control_head), sizeof(struct sb_control_head)},
    [SB_CONTROL_BUS_STATS] = {sizeof(struct sb_control_head), sizeof(struct sb_bus_stats_reply)},
    [SB_CONTROL_HANDLES] = {sizeof(struct sb_page_request), sizeof(struct sb_page_reply)},
    [SB_CONTROL_CONNS] = {sizeof(struct sb_page_request), sizeof(struct sb_page_reply)},
    [SB_CONTROL_HEAPS] = {0, sizeof(struct sb_map_message)},
};

static int sb_control_bad(uint32_t type, const char *what)
{
    return sb_fail(SHMBUS_E_INVALID, "control message %s: %s", sb_control_names[type], what);
}

/* Bytes that a request has behind its fixed part; SIZE_MAX where its counts are out of bounds. */
static size_t sb_control_tail(const void *buf, uint32_t type)
{
    if (type == SB_CONTROL_SUBSCRIBE)
        return ((const struct sb_subscribe_request *)buf)->patterns_len;
    if (type == SB_CONTROL_ROUTE)
        return ((const struct sb_route_request *)buf)->topic_len;
    if (type == SB_CONTROL_UNROUTE)
        return (size_t)((const struct sb_unroute_request *)buf)->count * 2 * sizeof(uint32_t);
    if (type == SB_CONTROL_MAP || type == SB_CONTROL_HEAPS) {
        uint32_t count = ((const struct sb_map_message *)buf)->count;
        if (count == 0 || count > SB_CONTROL_FDS)
            return SIZE_MAX;
        return count * sizeof(struct sb_map_item);
    }
    return 0;
}

static int sb_control_parse_head(const void *buf, size_t len)
{
    const struct sb_control_head *head = buf;
    if (len < sizeof(*head) || len > SB_CONTROL_MAX)
        return sb_fail(SHMBUS_E_INVALID, "control message of %zu bytes: %zu to %u expected", len,
                       sizeof(*head), SB_CONTROL_MAX);
    if (head->type == 0 || head->type >= SB_CONTROL_TYPES)
        return sb_fail(SHMBUS_E_INVALID, "control message of unknown type %u", head->type);
    if (head->size != len)
        return sb_control_bad(head->type, "its length field contradicts its length");
    return 0;
}

int sb_control_parse_request(const void *buf, size_t len)
{
    int ret = sb_control_parse_head(buf, len);
    if (ret)
        return ret;
    const struct sb_control_head *head = buf;
    size_t fixed = sb_control_sizes[head->type].request;
    if (fixed == 0)
        return sb_control_bad(head->type, "no client sends it");
    if (head->status != 0)
        return sb_control_bad(head->type, "a request has no status");
    if (len < fixed || len - fixed != sb_control_tail(buf, head->type))
        return sb_control_bad(head->type, "its counts contradict its length");
    return 0;
}

int sb_control_parse_reply(const void *buf, size_t len, uint32_t type, uint32_t id)
{
    int ret = sb_control_parse_head(buf, len);
    if (ret)
        return ret;
    const struct sb_control_head *head = buf;
    if (head->type != type || head->id != id)
        return sb_control_bad(head->type, "it answers no request of this connection");
    if (head->status > 0)
        return sb_control_bad(head->type, "its status is none");
    if (head->status < 0)
        return len - sizeof(*head) <= SB_CONTROL_SENTENCE
                   ? 0
                   : sb_control_bad(head->type, "its error text is too long");
    size_t fixed = sb_control_sizes[type].reply;
    bool paged = type == SB_CONTROL_HANDLES || type == SB_CONTROL_CONNS;
    bool mapped = type == SB_CONTROL_MAP || type == SB_CONTROL_HEAPS;
    size_t tail = len < fixed ? SIZE_MAX : mapped ? sb_control_tail(buf, type) : 0;
    if (len < fixed || (!paged && len - fixed != tail))
        return sb_control_bad(head->type, "its counts contradict its length");
    return 0;
}

int sb_control_next_pattern(const uint8_t *list, size_t len, size_t *at, const uint8_t **pattern,
                            size_t *pattern_len)
{
    if (*at == len)
        return 0;
    uint16_t n;
    if (len - *at < sizeof(n))
        return sb_fail(SHMBUS_E_INVALID, "pattern list: cut off in a length");
    memcpy(&n, list + *at, sizeof(n));
    if (n > len - *at - sizeof(n))
        return sb_fail(SHMBUS_E_INVALID, "pattern list: cut off in a pattern");
    *pattern = list + *at + sizeof(n);
    *pattern_len = n;
    *at += sizeof(n) + n;
    return 1;
}

int sb_control_next_entry(const struct sb_page_reply *page, size_t *at, const void **entry)
{
    bool handles = page->head.type == SB_CONTROL_HANDLES;
    size_t fixed = handles ? sizeof(struct sb_handle_entry) : sizeof(struct sb_conn_entry);
    size_t left = page->head.size - sizeof(*page) - *at;
    if (left == 0)
        return 0;
    const uint8_t *p = (const uint8_t *)(page + 1) + *at;
    uint32_t size = left < fixed ? 0 : *(const uint32_t *)(const void *)p;
    if (size < fixed || size > left || size % 8 != 0)
        return sb_control_bad(page->head.type, "an entry runs over its end");
    uint32_t tail = handles ? ((const struct sb_handle_entry *)(const void *)p)->patterns_len
                            : ((const struct sb_conn_entry *)(const void *)p)->principal_len;
    if (tail > size - fixed)
        return sb_control_bad(page->head.type, "an entry runs over its end");
    *entry = p;
    *at += size;
    return 1;
}
