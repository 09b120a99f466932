/* SPDX-License-Identifier: Apache-2.0 */
#include "feeds.h"

#include <stdlib.h>
#include <string.h>

static int compare(const struct feed *feed, const struct reading *reading)
{
    if (feed->kind != reading->kind)
        return feed->kind < reading->kind ? -1 : 1;
    if (feed->number != reading->number)
        return feed->number < reading->number ? -1 : 1;
    return strcmp(feed->name, reading->name);
}

/* Where the reading's feed is, or belongs. */
static size_t find_place(const struct feeds *feeds, const struct reading *reading)
{
    size_t low = 0;
    size_t high = feeds->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(&feeds->items[middle], reading) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int prepare(const struct feeds *feeds, const struct reading *reading,
                   struct shmbus_publisher **publisher)
{
    struct shmbus_token tokens[4] = {SHMBUS_STR("host"), shmbus_token_str(feeds->host),
                                     shmbus_token_str(reading_word(reading->kind))};
    size_t count = 3;
    if (reading->kind == READING_NET)
        tokens[count++] = shmbus_token_str(reading->name);
    else if (reading->kind != READING_MEM)
        tokens[count++] = shmbus_token_num(reading->number);
    struct shmbus_publish_options options = SHMBUS_PUBLISH_OPTIONS_INIT;
    options.encoding = SHMBUS_JSON;
    options.clock = SHMBUS_CLOCK_REALTIME;
    return shmbus_prepare(feeds->conn, shmbus_tokens(tokens, count), &options, publisher);
}

/* Makes room for one more item. */
static int reserve(struct feeds *feeds)
{
    if (feeds->count < feeds->capacity)
        return 0;
    size_t capacity = feeds->capacity > 0 ? 2 * feeds->capacity : 256;
    struct feed *items = reallocarray(feeds->items, capacity, sizeof(*items));
    if (items == NULL)
        return SHMBUS_E_NOMEM;
    feeds->items = items;
    feeds->capacity = capacity;
    return 0;
}

static int add(struct feeds *feeds, const struct reading *reading, size_t place)
{
    struct feed feed = {.kind = reading->kind, .number = reading->number};
    strncpy(feed.name, reading->name, sizeof(feed.name) - 1);
    int rc = reserve(feeds);
    if (rc == 0)
        rc = prepare(feeds, reading, &feed.publisher);
    if (rc != 0)
        return rc;
    struct feed *at = &feeds->items[place];
    memmove(at + 1, at, (feeds->count - place) * sizeof(*at));
    *at = feed;
    feeds->count++;
    feeds->added++;
    return 0;
}

int feeds_find(struct feeds *feeds, const struct reading *reading, uint64_t round,
               struct shmbus_publisher **publisher)
{
    size_t place = find_place(feeds, reading);
    if (place == feeds->count || compare(&feeds->items[place], reading) != 0) {
        int rc = add(feeds, reading, place);
        if (rc != 0)
            return rc;
    }
    feeds->items[place].round = round;
    *publisher = feeds->items[place].publisher;
    return 0;
}

void feeds_sweep(struct feeds *feeds, uint64_t round)
{
    size_t kept = 0;
    for (size_t i = 0; i < feeds->count; i++) {
        if (feeds->items[i].round == round) {
            feeds->items[kept++] = feeds->items[i];
            continue;
        }
        shmbus_publisher_free(feeds->items[i].publisher);
        feeds->freed++;
    }
    feeds->count = kept;
}

void feeds_deinit(struct feeds *feeds)
{
    for (size_t i = 0; i < feeds->count; i++)
        shmbus_publisher_free(feeds->items[i].publisher);
    free(feeds->items);
    feeds->items = NULL;
    feeds->count = feeds->capacity = 0;
}
