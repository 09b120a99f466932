/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static role_fn *const roles[ROLE_COUNT] = {
    [ROLE_ATOMIC_PING] = floor_atomic_ping,
    [ROLE_ATOMIC_ECHO] = floor_atomic_echo,
    [ROLE_FUTEX_PING] = floor_futex_ping,
    [ROLE_FUTEX_ECHO] = floor_futex_echo,
    [ROLE_MEMCPY] = floor_memcpy,
    [ROLE_SPSC_SEND] = floor_spsc_send,
    [ROLE_SPSC_TAKE] = floor_spsc_take,
    [ROLE_PUBLISH] = throughput_publish,
    [ROLE_SUBSCRIBE] = throughput_subscribe,
    [ROLE_PING] = latency_ping,
    [ROLE_ECHO] = latency_echo,
};

void worker_fail(struct worker *worker, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(worker->self->error, sizeof(worker->self->error), format, args);
    va_end(args);
    _exit(1);
}

void worker_report(struct worker *worker)
{
    const uint64_t one = 1;
    if (write(WORKER_REPORT_FD, &one, sizeof(one)) != (ssize_t)sizeof(one))
        worker_fail(worker, "cannot report: %s", strerror(errno));
}

void worker_wait(struct worker *worker, enum phase phase)
{
    uint32_t *word = &worker->page->phase;
    for (;;) {
        uint32_t seen = load32(word);
        if (seen >= (uint32_t)phase)
            return;
        futex_wait(word, seen);
    }
}

void worker_ready(struct worker *worker)
{
    worker_report(worker);
    worker_wait(worker, PHASE_GO);
}

static void pin(struct worker *worker)
{
    if (worker->self->cpu < 0)
        return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)worker->self->cpu, &one);
    if (sched_setaffinity(0, sizeof(one), &one) != 0)
        worker_fail(worker, "cannot run on processor %d: %s", worker->self->cpu, strerror(errno));
}

int worker_main(const char *index)
{
    struct stat status;
    size_t nth = strtoul(index, NULL, 10);
    if (nth >= PAGE_WORKERS_MAX || fstat(WORKER_PAGE_FD, &status) != 0 ||
        (size_t)status.st_size < sizeof(struct page)) {
        fputs("shmbus-bench: --worker is for shmbus-bench itself\n", stderr);
        return 2;
    }
    struct page *page =
        mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, WORKER_PAGE_FD, 0);
    if (page == MAP_FAILED) {
        perror("shmbus-bench: worker: mmap");
        return 1;
    }
    struct worker worker = {.page = page, .self = &page->slot[nth]};
    /* The parent may have died before it could be asked for. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != page->parent)
        return 1;
    /* It was executed as /proc/self/exe, and would be called exe. */
    prctl(PR_SET_NAME, "shmbus-bench");
    worker.self->pid = getpid();
    pin(&worker);
    roles[worker.self->role](&worker);
    return 0;
}
