/* SPDX-License-Identifier: Apache-2.0 */
#include "stop.h"

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

static volatile sig_atomic_t requested;

static void request(int signal_number)
{
    (void)signal_number;
    requested = 1;
}

void stop_init(void)
{
    struct sigaction action = {.sa_handler = request}; /* no SA_RESTART: what blocks comes back */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool stop_requested(void)
{
    return requested != 0;
}

int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Polls with the two signals let in during the wait only; what ppoll() says. */
static int poll_signals(struct pollfd *fd, nfds_t count, const struct timespec *timeout)
{
    sigset_t ours;
    sigset_t before;
    int ready = -1;
    sigemptyset(&ours);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGTERM);
    sigprocmask(SIG_BLOCK, &ours, &before);
    if (!requested)
        ready = ppoll(fd, count, timeout, &before);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return ready;
}

bool stop_wait(int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    while (!requested && poll_signals(&readable, 1, NULL) <= 0)
        continue;
    return !requested;
}

bool stop_sleep(int64_t time_ns)
{
    for (int64_t left = time_ns - clock_now(); left > 0 && !requested;
         left = time_ns - clock_now()) {
        struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
        (void)poll_signals(NULL, 0, &timeout);
    }
    return !requested;
}
