/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shmbusd: one bus, coordinated by a process of its own in the foreground.
 *
 * The coordinator runs in a thread of the library. The signals that end the bus are blocked before
 * it starts and taken by sigwait(): whenever one arrives, it is neither lost nor does it interrupt
 * anything.
 */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <shmbus/coordinator.h>

#include "common_fds.h"
#include "shmbusd_settings.h"

static void log_line(int level, const char *line, void *arg)
{
    const struct settings *settings = arg;
    if (level <= settings->log_level)
        fprintf(stderr, "shmbusd: %s: %s\n", settings->name, line);
}

/*
 * Tells systemd, or whoever else listens at $NOTIFY_SOCKET, of a change of state. A name that
 * starts with @ is in the abstract namespace. Nobody's listening is no failure of the bus.
 */
static void notify(const char *state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    if (path == NULL || (path[0] != '/' && path[0] != '@'))
        return;
    size_t len = strlen(path);
    if (len >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, path, len);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
        fprintf(stderr, "shmbusd: telling NOTIFY_SOCKET %s failed: %m\n", path);
    close(fd);
}

int main(int argc, char **argv)
{
    static struct settings settings;
    fds_fill_standard();
    int end = settings_read(&settings, argc, argv);
    if (end >= 0)
        return end;
    settings.options.log = log_line;
    settings.options.log_arg = &settings;

    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    signal(SIGHUP, SIG_IGN); /* asks a daemon to read its policy again; there is none */
    signal(SIGPIPE, SIG_IGN);

    struct shmbus_coordinator *coordinator;
    int rc = shmbus_coordinator_start(settings.name, &settings.options, &coordinator);
    if (rc < 0) {
        fprintf(stderr, "shmbusd: %s\n", shmbus_errmsg());
        return rc == SHMBUS_E_INVALID ? 2 : 1;
    }
    printf("shmbusd: %s ready\n", settings.name);
    fflush(stdout);
    notify("READY=1");

    int signal_number;
    while (sigwait(&ending, &signal_number) != 0)
        continue;
    notify("STOPPING=1");
    shmbus_coordinator_stop(coordinator);
    return 0;
}
