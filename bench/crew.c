/* SPDX-License-Identifier: Apache-2.0 */
#include "crew.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "worker.h"

/* A worker that takes longer to get ready, or to end, is stuck. */
#define STUCK_NS UINT64_C(20000000000)

extern char **environ;

static int signal_fd = -1;
static int signal_seen;

static int failed(const char *what)
{
    fprintf(stderr, "shmbus-bench: %s: %s\n", what, strerror(errno));
    return -1;
}

int crew_watch_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return failed("sigprocmask");
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return signal_fd < 0 ? failed("signalfd") : 0;
}

int crew_interrupted(void)
{
    struct signalfd_siginfo info;
    if (!signal_seen && read(signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        signal_seen = (int)info.ssi_signo;
    return signal_seen;
}

/* Moves a descriptor beyond those that workers are given, so that handing one over harms none. */
static int above_inherited(int fd)
{
    if (fd < 0)
        return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, WORKER_REPORT_FD + 1);
    close(fd);
    return moved;
}

int crew_open(struct crew *crew, const struct page_params *params, size_t ring_bytes,
              const struct cpus *cpus)
{
    *crew = (struct crew){.cpus = cpus, .page_fd = -1, .report_fd = -1};
    size_t bytes = sizeof(struct page) + ring_bytes;
    crew->page_fd = above_inherited(memfd_create("shmbus-bench", MFD_CLOEXEC));
    crew->report_fd = above_inherited(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (crew->page_fd < 0 || crew->report_fd < 0)
        return failed("memfd_create, eventfd");
    /* Allocated, so that no memory is an error now and no signal later. */
    if ((errno = posix_fallocate(crew->page_fd, 0, (off_t)bytes)) != 0)
        return failed("no memory for the processes to share");
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, crew->page_fd, 0);
    if (at == MAP_FAILED)
        return failed("mmap");
    crew->page = at;
    crew->page->params = *params;
    crew->page->bytes = bytes;
    crew->page->parent = getpid();
    return 0;
}

static int spawn(const char *index, int page_fd, int report_fd, pid_t *pid)
{
    char *const argv[] = {(char *)"shmbus-bench", (char *)"--worker", (char *)index, NULL};
    posix_spawn_file_actions_t actions;
    if ((errno = posix_spawn_file_actions_init(&actions)) != 0)
        return failed("posix_spawn");
    errno = posix_spawn_file_actions_adddup2(&actions, page_fd, WORKER_PAGE_FD);
    if (errno == 0)
        errno = posix_spawn_file_actions_adddup2(&actions, report_fd, WORKER_REPORT_FD);
    if (errno == 0)
        errno = posix_spawn(pid, "/proc/self/exe", &actions, NULL, argv, environ);
    int result = errno == 0 ? 0 : failed("posix_spawn /proc/self/exe");
    posix_spawn_file_actions_destroy(&actions);
    return result;
}

static int start_one(struct crew *crew, enum role role, unsigned nth)
{
    unsigned index = crew->count;
    struct page_slot *slot = &crew->page->slot[index];
    slot->role = (uint32_t)role;
    slot->nth = nth;
    slot->cpu = crew->cpus->count > 1 ? crew->cpus->cpu[index % (unsigned)crew->cpus->count] : -1;

    char text[16];
    snprintf(text, sizeof(text), "%u", index);
    struct crew_worker *worker = &crew->worker[index];
    if (spawn(text, crew->page_fd, crew->report_fd, &worker->pid) != 0)
        return -1;
    crew->count++;
    worker->pidfd = (int)syscall(SYS_pidfd_open, worker->pid, 0);
    return worker->pidfd < 0 ? failed("pidfd_open") : 0;
}

/* Takes the worker's end. Returns 0 if it ended well. */
static int reap(struct crew *crew, unsigned index)
{
    struct crew_worker *worker = &crew->worker[index];
    const char *error = crew->page->slot[index].error;
    int status;
    if (waitpid(worker->pid, &status, 0) < 0)
        return failed("waitpid");
    worker->pid = 0;
    if (*error)
        fprintf(stderr, "shmbus-bench: %s\n", error);
    else if (WIFSIGNALED(status))
        fprintf(stderr, "shmbus-bench: a worker was killed: %s\n", strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0)
        fprintf(stderr, "shmbus-bench: a worker failed with status %d\n", WEXITSTATUS(status));
    else
        return 0;
    return -1;
}

/* What poll() watches: the two first, then the workers that live. */
static nfds_t watched(const struct crew *crew, struct pollfd *fds, unsigned *index)
{
    nfds_t count = 2;
    fds[0] = (struct pollfd){.fd = signal_fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = crew->report_fd, .events = POLLIN};
    for (unsigned i = 0; i < crew->count; i++)
        if (crew->worker[i].pid > 0 && crew->worker[i].pidfd >= 0) {
            fds[count] = (struct pollfd){.fd = crew->worker[i].pidfd, .events = POLLIN};
            index[count++] = i;
        }
    return count;
}

/*
 * Waits until the deadline for something to happen: a report (reports grows), or the end of
 * workers. Returns 1, 0 at the deadline, -1 when a worker failed or the user interrupted.
 */
static int wait_until(struct crew *crew, uint64_t deadline_ns, uint64_t *reports)
{
    struct pollfd fds[PAGE_WORKERS_MAX + 2];
    unsigned index[PAGE_WORKERS_MAX + 2];
    nfds_t count = watched(crew, fds, index);
    uint64_t now = now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
    struct timespec timeout = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
    int ready = ppoll(fds, count, &timeout, NULL);
    if (ready < 0 && errno != EINTR)
        return failed("ppoll");
    if (crew_interrupted())
        return -1;
    uint64_t more;
    if (read(crew->report_fd, &more, sizeof(more)) == (ssize_t)sizeof(more))
        *reports += more;
    for (nfds_t i = 2; i < count; i++)
        if (ready > 0 && fds[i].revents && reap(crew, index[i]) != 0)
            return -1;
    return ready != 0;
}

static unsigned alive(const struct crew *crew)
{
    unsigned count = 0;
    for (unsigned i = 0; i < crew->count; i++)
        count += crew->worker[i].pid > 0;
    return count;
}

static int stuck(const struct crew *crew)
{
    fprintf(stderr, "shmbus-bench: %u of %u workers do not answer\n", alive(crew), crew->count);
    return -1;
}

static int wait_reports(struct crew *crew, unsigned wanted)
{
    uint64_t deadline = now_ns() + STUCK_NS, reports = 0;
    while (reports < wanted) {
        int result = wait_until(crew, deadline, &reports);
        if (result < 0)
            return -1;
        if (result == 0)
            return stuck(crew);
    }
    return 0;
}

int crew_start(struct crew *crew, enum role role, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (start_one(crew, role, i) != 0)
            return -1;
    return wait_reports(crew, count);
}

static void enter(struct crew *crew, enum phase phase)
{
    store32(&crew->page->phase, (uint32_t)phase);
    futex_wake(&crew->page->phase);
}

int crew_run(struct crew *crew, double seconds)
{
    uint64_t start = now_ns(), reports = 0;
    uint64_t deadline = start + (uint64_t)(seconds * 1e9);
    crew->page->go_ns = start;
    enter(crew, PHASE_GO);
    int result;
    do
        result = wait_until(crew, deadline, &reports);
    while (result > 0 && alive(crew) == crew->count && reports == 0);
    if (result > 0)
        fprintf(stderr, "shmbus-bench: a worker stopped before its time\n");
    enter(crew, PHASE_STOP);
    return result == 0 ? 0 : -1;
}

int crew_advance(struct crew *crew, unsigned reports, enum phase phase)
{
    if (wait_reports(crew, reports) != 0)
        return -1;
    enter(crew, phase);
    return 0;
}

int crew_finish(struct crew *crew)
{
    uint64_t deadline = now_ns() + STUCK_NS, reports = 0;
    while (alive(crew) > 0) {
        int result = wait_until(crew, deadline, &reports);
        if (result < 0)
            return -1;
        if (result == 0)
            return stuck(crew);
    }
    return 0;
}

void crew_close(struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++) {
        if (crew->worker[i].pid > 0) {
            kill(crew->worker[i].pid, SIGKILL);
            waitpid(crew->worker[i].pid, NULL, 0);
        }
        if (crew->worker[i].pidfd >= 0)
            close(crew->worker[i].pidfd);
    }
    if (crew->page)
        munmap(crew->page, crew->page->bytes);
    if (crew->page_fd >= 0)
        close(crew->page_fd);
    if (crew->report_fd >= 0)
        close(crew->report_fd);
}
