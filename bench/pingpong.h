/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file pingpong.h
 * What floors and bus have in common when they measure round trips, so that they are measured
 * alike.
 *
 * Busy: one clock read per round, between a reply and the next message. It lies in the round trip,
 * of floor and bus alike; its cost, measured beforehand, is taken off.
 *
 * Sleeping: each message is sent to a receiver that is asleep, on both ways. The sender makes sure
 * of it; that takes longer than the way itself and is not counted: the round trip is the sum of the
 * two ways, each from before the send to after the receive (CLOCK_MONOTONIC is one clock for all
 * processes).
 */
#ifndef BENCH_PINGPONG_H
#define BENCH_PINGPONG_H

#include "hist.h"
#include "worker.h"

/** The pinging side's books. */
struct pingpong {
    struct worker *worker;
    struct hist hist;
    uint64_t clock_ns; /**< what one clock read costs */
    uint64_t start_ns;
    uint64_t last_ns; /**< when the previous round ended */
    uint64_t rounds;  /**< of warming up */
    int warm;         /**< it is over */
};

/** Opens the books; right before the first round. */
void pingpong_start(struct pingpong *pp, struct worker *worker);

/** Busy: a round has ended, and the next begins. */
void pingpong_round(struct pingpong *pp);

/** Sleeping: a message sent and received at these times, and its answer, which the echo stamped. */
void pingpong_ways(struct pingpong *pp, uint64_t sent_ns, uint64_t got_ns);

/** Writes the figures to the worker's slot. */
void pingpong_finish(struct pingpong *pp);

/** Opens what asleep_wait() reads about the peer. After worker_ready(): the peer has a pid then. */
int asleep_open(struct worker *worker);

/**
 * Waits until the peer's state in /proc/PID/stat is S, and then so long that its core is idle and
 * not still on its way there. Returns at once when the run has stopped.
 */
void asleep_wait(struct worker *worker, int fd);

#endif
