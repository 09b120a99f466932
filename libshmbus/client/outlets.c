/* SPDX-License-Identifier: Apache-2.0 */
/* The rings that a connection pushes to: mapped once, shared by sets, kept up to date. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "client/publishing.h"

#define SB_SEATS_MAX 65536u /* bounds the walk over the seats of a ring */

static const struct sb_ring_rec *sb_ring_rec_at(const struct shmbus_conn *conn, uint32_t index)
{
    return sb_table_at(sb_conn_arena(conn), &conn->header->rings, index,
                       sizeof(struct sb_ring_rec));
}

/*
 * Seats.
 */

/* The seats of a ring as the arena lists them now, with mappings still to be found. */
struct sb_seat_list {
    struct sb_target_seat *seats;
    struct sb_mapping_want *wants; /* each seat's inbox */
    uint32_t count;
    uint32_t room;
};

static void sb_seat_list_deinit(struct sb_seat_list *list)
{
    free(list->seats);
    free(list->wants);
}

static int sb_seat_list_add(struct sb_seat_list *list, const struct sb_target_seat *seat,
                            struct sb_mapping_want want)
{
    if (list->count == list->room) {
        uint32_t room = list->room ? list->room * 2 : 4;
        struct sb_target_seat *seats = realloc(list->seats, room * sizeof(*seats));
        if (seats)
            list->seats = seats;
        struct sb_mapping_want *wants = realloc(list->wants, room * sizeof(*wants));
        if (wants)
            list->wants = wants;
        if (!seats || !wants)
            return sb_fail(SHMBUS_E_NOMEM, "no memory for the seats of a ring");
        list->room = room;
    }
    list->seats[list->count] = *seat;
    list->wants[list->count] = want;
    list->count++;
    return 0;
}

/* Walks the ring's list. 0, SB_OUTLETS_GONE when it changed under the walk, SHMBUS_E_NOMEM. */
static int sb_seat_list_read(const struct shmbus_conn *conn, const struct sb_ring_rec *ring,
                             uint32_t index, struct sb_seat_list *list)
{
    struct sb_region arena = sb_conn_arena(conn);
    uint32_t at = sb_load_acquire(&ring->seats);
    for (uint32_t steps = 0; at != SB_NONE; steps++) {
        const struct sb_seat_rec *rec = sb_table_at(arena, &conn->header->seats, at, sizeof(*rec));
        if (!rec || steps == SB_SEATS_MAX)
            return SB_OUTLETS_GONE;
        uint32_t gen = sb_load_acquire(&rec->gen);
        if (gen % 2 == 0 || rec->ring != index)
            return SB_OUTLETS_GONE;
        const struct sb_conn_rec *reader =
            sb_table_at(arena, &conn->header->conns, rec->conn, sizeof(*reader));
        if (!reader)
            return SB_OUTLETS_GONE;
        struct sb_target_seat seat = {.rec = rec, .gen = gen};
        struct sb_mapping_want want = {
            .kind = SB_MAP_INBOX, .index = rec->conn, .gen = sb_load_acquire(&reader->gen)};
        at = sb_load_acquire(&rec->next);
        int ret = sb_seat_list_add(list, &seat, want);
        if (ret)
            return ret;
    }
    return 0;
}

/* Points each seat into its inbox; false when one has gone. */
static bool sb_seat_list_place(struct sb_seat_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct sb_mapping *inbox = list->wants[i].mapping;
        struct sb_target_seat *seat = &list->seats[i];
        uint64_t offset = seat->rec->offset;
        sb_fence_acquire(); /* what was read of the record, before its generation again */
        if (!inbox || offset > inbox->size || inbox->size - offset < sizeof(struct sb_seat) ||
            !sb_target_seat_live(seat))
            return false;
        seat->seat = (const struct sb_seat *)(const void *)(inbox->base + offset);
        seat->mapping = inbox;
    }
    return true;
}

static void sb_seats_put(struct shmbus_conn *conn, struct sb_target_seat *seats, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sb_mapping_put(conn, seats[i].mapping);
}

static bool sb_seat_list_same(const struct sb_seat_list *list, const struct sb_target *t)
{
    if (list->count != t->seat_count)
        return false;
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->seats[i].rec != t->seats[i].rec || list->seats[i].gen != t->seats[i].gen)
            return false;
    }
    return true;
}

/* Gives the target the seats of the list, whose mappings have been found. */
static void sb_target_seat_all(struct shmbus_conn *conn, struct sb_target *t,
                               struct sb_seat_list *list)
{
    sb_seats_put(conn, t->seats, t->seat_count);
    free(t->seats);
    t->seats = list->seats;
    t->seat_count = list->count;
    list->seats = NULL;
    /* What limits pushes is read from the seats that are there now. */
    t->limit = 0;
}

int sb_outlets_refresh(void *ctx, struct sb_target *target)
{
    struct sb_publishing *p = ctx;
    struct shmbus_conn *conn = p->conn;
    struct sb_outlet *outlet = sb_container_of(target, struct sb_outlet, target);
    uint64_t epoch = sb_load_acquire(&conn->header->epoch);
    if (outlet->epoch == epoch || sb_load_acquire(&target->rec->gen) != target->gen)
        return 0;
    int ret = SB_OUTLETS_GONE;
    for (int tries = 0; ret == SB_OUTLETS_GONE && tries < 8; tries++) {
        struct sb_seat_list list = {0};
        ret = sb_seat_list_read(conn, target->rec, target->index, &list);
        if (ret == 0 && !sb_seat_list_same(&list, target)) {
            ret = sb_mapping_get(conn, list.wants, list.count);
            if (ret == 0 && !sb_seat_list_place(&list)) {
                for (uint32_t i = 0; i < list.count; i++)
                    sb_mapping_put(conn, list.wants[i].mapping);
                ret = SB_OUTLETS_GONE;
            }
            if (ret == 0)
                sb_target_seat_all(conn, target, &list);
        }
        sb_seat_list_deinit(&list);
    }
    if (ret == 0)
        outlet->epoch = epoch;
    return ret == SB_OUTLETS_GONE
               ? sb_fail(SHMBUS_E_COORD,
                         "the readers of a ring changed faster than they could be read")
               : ret;
}

/*
 * Outlets.
 */

static struct sb_outlet *sb_outlet_find(struct sb_publishing *p, uint32_t index, uint32_t gen)
{
    struct sb_outlet *o = p->outlets[index % SB_OUTLET_BUCKETS];
    while (o && (o->target.index != index || o->target.gen != gen))
        o = o->next;
    return o;
}

static void sb_outlet_unref(struct sb_publishing *p, struct sb_outlet *outlet)
{
    if (--outlet->refs > 0)
        return;
    struct sb_outlet **at = &p->outlets[outlet->target.index % SB_OUTLET_BUCKETS];
    while (*at != outlet)
        at = &(*at)->next;
    *at = outlet->next;
    p->heap.limited -= outlet->target.limited;
    sb_seats_put(p->conn, outlet->target.seats, outlet->target.seat_count);
    free(outlet->target.seats);
    free(outlet->target.holds);
    sb_mapping_put(p->conn, outlet->ring_mapping);
    sb_mapping_put(p->conn, outlet->bell_mapping);
    free(outlet);
}

/* An outlet that is being made: its record, and what it needs mapped. */
struct sb_outlet_plan {
    const struct sb_ring_rec *rec;
    uint32_t index, gen;
    struct sb_outlet *found; /* it is there already */
    struct sb_seat_list list;
    uint32_t want; /* of its ring segment; its bell segment and inboxes follow */
};

static int sb_outlet_plan(struct sb_publishing *p, uint32_t index, struct sb_outlet_plan *plan)
{
    plan->index = index;
    plan->rec = sb_ring_rec_at(p->conn, index);
    plan->gen = plan->rec ? sb_load_acquire(&plan->rec->gen) : 0;
    if (plan->gen % 2 == 0)
        return SB_OUTLETS_GONE;
    plan->found = sb_outlet_find(p, index, plan->gen);
    return plan->found ? 0 : sb_seat_list_read(p->conn, plan->rec, index, &plan->list);
}

static uint32_t sb_segment_gen(const struct shmbus_conn *conn, uint32_t index)
{
    const struct sb_segment_rec *rec =
        sb_table_at(sb_conn_arena(conn), &conn->header->segments, index, sizeof(*rec));
    return rec ? sb_load_acquire(&rec->gen) : 0;
}

/* Lists what the plan wants mapped; returns how many. */
static uint32_t sb_outlet_wants(const struct shmbus_conn *conn, const struct sb_outlet_plan *plan,
                                struct sb_mapping_want *wants)
{
    if (plan->found)
        return 0;
    uint32_t rings = plan->rec->segment, bells = plan->rec->bell_segment;
    wants[0] = (struct sb_mapping_want){
        .kind = SB_MAP_RINGS_WRITE, .index = rings, .gen = sb_segment_gen(conn, rings)};
    wants[1] = (struct sb_mapping_want){
        .kind = SB_MAP_BELLS, .index = bells, .gen = sb_segment_gen(conn, bells)};
    for (uint32_t i = 0; i < plan->list.count; i++)
        wants[2 + i] = plan->list.wants[i];
    return 2 + plan->list.count;
}

/* The outlet of a plan whose wants have been mapped. 0, SB_OUTLETS_GONE, SHMBUS_E_NOMEM. */
static int sb_outlet_make(struct sb_publishing *p, struct sb_outlet_plan *plan, uint64_t epoch,
                          struct sb_mapping_want *wants, struct sb_outlet **out)
{
    const struct sb_ring_rec *rec = plan->rec;
    struct sb_mapping *rings = wants[0].mapping, *bells = wants[1].mapping;
    uint64_t offset = rec->offset;
    uint64_t bell = (uint64_t)rec->bell * sizeof(struct sb_bell);
    uint32_t capacity = rec->capacity;
    for (uint32_t i = 0; i < plan->list.count; i++)
        plan->list.wants[i].mapping = wants[2 + i].mapping;
    sb_fence_acquire(); /* what was read of the record, before its generation again */
    if (!rings || !bells || capacity == 0 || capacity > SB_QUEUE_MAX || offset > rings->size ||
        rings->size - offset < sb_ring_bytes(capacity) ||
        bell + sizeof(struct sb_bell) > bells->size || !sb_seat_list_place(&plan->list) ||
        sb_load_acquire(&rec->gen) != plan->gen)
        return SB_OUTLETS_GONE;
    struct sb_outlet *o = calloc(1, sizeof(*o));
    if (!o)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a ring");
    o->refs = 1;
    o->epoch = epoch;
    o->ring_mapping = rings;
    o->bell_mapping = bells;
    o->target.ring = sb_ring_view((struct sb_ring *)(void *)(rings->base + offset), capacity);
    o->target.limited = rec->full == SB_REJECT_NEWEST;
    p->heap.limited += o->target.limited;
    o->target.bell = (struct sb_bell *)(void *)(bells->base + bell);
    o->target.index = plan->index;
    o->target.gen = plan->gen;
    o->target.rec = rec;
    o->target.seats = sb_take_ptr(plan->list.seats);
    o->target.seat_count = plan->list.count;
    o->next = p->outlets[plan->index % SB_OUTLET_BUCKETS];
    p->outlets[plan->index % SB_OUTLET_BUCKETS] = o;
    *out = o;
    return 0;
}

/*
 * Sets.
 */

static struct sb_outlet *sb_set_outlet(const struct sb_target_set *set, uint32_t i)
{
    return sb_container_of(set->target[i], struct sb_outlet, target);
}

void sb_outlets_unref(void *ctx, struct sb_target_set *set)
{
    struct sb_publishing *p = ctx;
    if (--set->refs > 0)
        return;
    if (p->recent == set)
        p->recent = NULL;
    for (uint32_t i = 0; i < set->count; i++)
        sb_outlet_unref(p, sb_set_outlet(set, i));
    free(set->bell);
    free(set);
}

static void sb_set_add_bell(struct sb_target_set *set, const struct sb_target *t)
{
    for (struct sb_bell **b = set->bell; b < set->bell_end; b++) {
        if (*b == t->bell)
            return;
    }
    *set->bell_end++ = t->bell;
}

static struct sb_target_set *sb_set_new(uint32_t count)
{
    struct sb_target_set *set = malloc(sizeof(*set) + count * sizeof(set->target[0]));
    struct sb_bell **bell = malloc((count ? count : 1) * sizeof(*bell));
    if (!set || !bell) {
        free(set);
        free(bell);
        sb_fail(SHMBUS_E_NOMEM, "no memory for the rings of a topic");
        return NULL;
    }
    *set = (struct sb_target_set){.refs = 1, .bell = bell, .bell_end = bell};
    return set;
}

/* Whether the set made last is of the planned rings. */
static bool sb_set_is_recent(const struct sb_publishing *p, const struct sb_outlet_plan *plans,
                             uint32_t count)
{
    if (!p->recent || p->recent->count != count)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!plans[i].found || p->recent->target[i] != &plans[i].found->target)
            return false;
    }
    return true;
}

/* Maps what the plans want and makes the set of them. */
static int sb_set_make(struct sb_publishing *p, struct sb_outlet_plan *plans, uint32_t count,
                       uint64_t epoch, struct sb_target_set **out)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += plans[i].found ? 0 : 2 + plans[i].list.count;
    struct sb_mapping_want *wants = calloc(total ? total : 1, sizeof(*wants));
    struct sb_target_set *set = sb_set_new(count);
    int ret = wants && set ? 0 : sb_fail(SHMBUS_E_NOMEM, "no memory for the rings of a topic");
    for (uint32_t i = 0, at = 0; ret == 0 && i < count; i++) {
        plans[i].want = at;
        at += sb_outlet_wants(p->conn, &plans[i], &wants[at]);
    }
    if (ret == 0 && total)
        ret = sb_mapping_get(p->conn, wants, total);
    bool mapped = ret == 0;
    for (uint32_t i = 0; ret == 0 && i < count; i++) {
        struct sb_outlet *o = plans[i].found;
        uint32_t n = o ? 0 : 2 + plans[i].list.count;
        if (o)
            o->refs++;
        else
            ret = sb_outlet_make(p, &plans[i], epoch, &wants[plans[i].want], &o);
        if (ret)
            break;
        memset(&wants[plans[i].want], 0, n * sizeof(*wants)); /* the outlet's now */
        set->target[set->count++] = &o->target;
        sb_set_add_bell(set, &o->target);
    }
    for (uint32_t i = 0; mapped && i < total; i++)
        sb_mapping_put(p->conn, wants[i].mapping);
    free(wants);
    if (ret == 0)
        *out = set;
    else if (set)
        sb_outlets_unref(p, set);
    return ret;
}

int sb_outlets_set(struct sb_publishing *p, const uint32_t *rings, uint32_t count,
                   struct sb_target_set **set)
{
    /* Read before the seats: what changes later has a later epoch, and is refreshed. */
    uint64_t epoch = sb_load_acquire(&p->conn->header->epoch);
    struct sb_outlet_plan *plans = calloc(count ? count : 1, sizeof(*plans));
    if (!plans)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for the rings of a topic");
    int ret = 0;
    for (uint32_t i = 0; ret == 0 && i < count; i++)
        ret = sb_outlet_plan(p, rings[i], &plans[i]);
    if (ret == 0 && sb_set_is_recent(p, plans, count)) {
        *set = p->recent;
        p->recent->refs++;
    } else if (ret == 0) {
        ret = sb_set_make(p, plans, count, epoch, set);
        if (ret == 0)
            p->recent = *set;
    }
    for (uint32_t i = 0; i < count; i++)
        sb_seat_list_deinit(&plans[i].list);
    free(plans);
    return ret;
}
