/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holds of any bytes taken as a control message, as a list of patterns, or as a page of
 * entries. One property for the unit test, which feeds it real and mutated messages, and the fuzz
 * target, which feeds it anything.
 *
 * Each function returns NULL, or the condition that does not hold. The bytes lie at the end of what
 * was allocated for them, so that a sanitizer sees every read beyond them.
 */
#ifndef TEST_CONTROL_PROPERTY_H
#define TEST_CONTROL_PROPERTY_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <shmbus/error.h>

#include "proto/control.h"

#define CONTROL_HOLDS(condition)                                                                   \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return #condition;                                                                     \
    } while (0)

static inline void control_free_memory(void **memory)
{
    free(*memory);
}

/* Whether a refusal is one: the code, and a sentence. */
static inline bool control_refused(int ret)
{
    return ret == SHMBUS_E_INVALID && shmbus_errmsg()[0] != '\0';
}

/* A walk ends at the end, every pattern lies behind the one before it, and nothing is left over. */
static inline const char *control_list_holds(const uint8_t *list, size_t len)
{
    const uint8_t *pattern, *end = list;
    size_t at = 0, pattern_len;
    int ret;
    while ((ret = sb_control_next_pattern(list, len, &at, &pattern, &pattern_len)) > 0) {
        CONTROL_HOLDS(ret == 1);
        CONTROL_HOLDS(pattern == end + sizeof(uint16_t));
        end = pattern + pattern_len;
        CONTROL_HOLDS(end == list + at);
        CONTROL_HOLDS(at <= len);
    }
    CONTROL_HOLDS(ret == 0 ? at == len : control_refused(ret));
    return NULL;
}

/* The same of the entries of a page, and of what each brings along. */
static inline const char *control_page_holds(const struct sb_page_reply *page)
{
    bool handles = page->head.type == SB_CONTROL_HANDLES;
    const uint8_t *end = (const uint8_t *)(page + 1);
    const void *entry;
    size_t at = 0, fixed = handles ? sizeof(struct sb_handle_entry) : sizeof(struct sb_conn_entry);
    int ret;
    while ((ret = sb_control_next_entry(page, &at, &entry)) > 0) {
        const uint8_t *from = entry;
        CONTROL_HOLDS(from == end);
        end = (const uint8_t *)(page + 1) + at;
        CONTROL_HOLDS((size_t)(end - from) >= fixed && at + sizeof(*page) <= page->head.size);
        const struct sb_handle_entry *handle = entry;
        const struct sb_conn_entry *conn = entry;
        size_t tail = handles ? handle->patterns_len : conn->principal_len;
        CONTROL_HOLDS(from + fixed + tail <= end);
        const char *broken = handles ? control_list_holds(from + fixed, tail) : NULL;
        if (broken)
            return broken;
    }
    CONTROL_HOLDS(ret == 0 ? at + sizeof(*page) == page->head.size : control_refused(ret));
    return NULL;
}

/* Where the variable part of an accepted request begins, and that it ends with the message. */
static inline const char *control_request_holds(const void *buf, size_t len)
{
    const struct sb_control_head *head = buf;
    const struct sb_subscribe_request *subscribe = buf;
    const struct sb_route_request *route = buf;
    const struct sb_unroute_request *unroute = buf;
    const struct sb_map_message *map = buf;
    CONTROL_HOLDS(head->size == len && len <= SB_CONTROL_MAX && head->status == 0);
    switch (head->type) {
    case SB_CONTROL_SUBSCRIBE:
        CONTROL_HOLDS(sizeof(*subscribe) + subscribe->patterns_len == len);
        return control_list_holds((const uint8_t *)(subscribe + 1), subscribe->patterns_len);
    case SB_CONTROL_ROUTE:
        CONTROL_HOLDS(sizeof(*route) + route->topic_len == len);
        return NULL;
    case SB_CONTROL_UNROUTE:
        CONTROL_HOLDS(sizeof(*unroute) + UINT64_C(8) * unroute->count == len);
        return NULL;
    case SB_CONTROL_MAP:
        CONTROL_HOLDS(map->count > 0 && map->count <= SB_CONTROL_FDS);
        CONTROL_HOLDS(sizeof(*map) + map->count * sizeof(map->item[0]) == len);
        return NULL;
    default:
        CONTROL_HOLDS(head->type > 0 && head->type < SB_CONTROL_HEAPS);
        return NULL;
    }
}

static inline const char *control_reply_holds(const void *buf, size_t len)
{
    const struct sb_control_head *head = buf;
    CONTROL_HOLDS(head->size == len && len <= SB_CONTROL_MAX && head->status <= 0);
    CONTROL_HOLDS(sb_control_parse_reply(buf, len, head->type, head->id + 1) == SHMBUS_E_INVALID);
    CONTROL_HOLDS(sb_control_parse_reply(buf, len, head->type ^ 1, head->id) == SHMBUS_E_INVALID);
    if (head->status < 0) {
        CONTROL_HOLDS(len - sizeof(*head) <= SB_CONTROL_SENTENCE);
        return NULL;
    }
    const struct sb_map_message *map = buf;
    if (head->type == SB_CONTROL_HANDLES || head->type == SB_CONTROL_CONNS)
        return control_page_holds(buf);
    if (head->type == SB_CONTROL_MAP || head->type == SB_CONTROL_HEAPS) {
        CONTROL_HOLDS(map->count > 0 && map->count <= SB_CONTROL_FDS);
        CONTROL_HOLDS(sizeof(*map) + map->count * sizeof(map->item[0]) == len);
    }
    return NULL;
}

/* All of it, of bytes taken as a message. */
static inline const char *control_message_holds(const uint8_t *data, size_t size)
{
    SB_CLEANUP(control_free_memory) void *buf = malloc(size ? size : 1);
    const struct sb_control_head *head = buf;
    memcpy(buf, data, size);
    int request = sb_control_parse_request(buf, size);
    CONTROL_HOLDS(request == 0 || control_refused(request));
    if (size < sizeof(*head)) {
        CONTROL_HOLDS(request != 0);
        CONTROL_HOLDS(control_refused(sb_control_parse_reply(buf, size, SB_CONTROL_MAP, 1)));
        return NULL;
    }
    int reply = sb_control_parse_reply(buf, size, head->type, head->id);
    CONTROL_HOLDS(reply == 0 || control_refused(reply));
    const char *broken = request ? NULL : control_request_holds(buf, size);
    return broken || reply ? broken : control_reply_holds(buf, size);
}

/* The first byte says how the rest is taken: as it is, or with a length that is right. */
static inline const char *control_property(const uint8_t *data, size_t size)
{
    if (size < 1)
        return NULL;
    SB_CLEANUP(control_free_memory) void *copy = malloc(size);
    uint8_t *bytes = copy;
    uint32_t len = (uint32_t)(size - 1);
    memcpy(bytes, data + 1, len);
    if (data[0] % 4 == 0)
        return control_list_holds(bytes, len);
    if (data[0] % 4 != 1 && len >= sizeof(struct sb_control_head))
        memcpy(bytes + offsetof(struct sb_control_head, size), &len, sizeof(len));
    return control_message_holds(bytes, len);
}

#endif
