/* SPDX-License-Identifier: Apache-2.0 */
#include "client/locate.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "client/arena_file.h"

/* What was met on the way. */
struct sb_search {
    const char *name;
    int64_t deadline;
    int *sock;
    struct sb_sock_peer *peer;
    char denied[PATH_MAX]; /* a path that this user may not use; "" */
};

bool sb_locate_trusts(uid_t owner, const struct sb_sock_peer *peer)
{
    return owner == 0 || owner == geteuid() || owner == peer->uid;
}

/* 0; SHMBUS_EMPTY if nobody can be reached at path; else a failure that ends the search. */
static int sb_search_at(struct sb_search *search, const char *path)
{
    int sock;
    int ret = sb_sock_connect(path, search->deadline, &sock);
    if (ret == SHMBUS_E_DENIED)
        snprintf(search->denied, sizeof(search->denied), "%s", path);
    if (ret == SHMBUS_E_DENIED || ret == SHMBUS_E_NO_BUS)
        return SHMBUS_EMPTY;
    if (ret == SHMBUS_TIMEOUT)
        return sb_fail(SHMBUS_E_COORD, "the coordinator of bus %s accepts no connection at %s",
                       search->name, path);
    if (ret)
        return ret;
    ret = sb_sock_peer(sock, search->peer);
    if (ret) {
        close(sock);
        return ret;
    }
    *search->sock = sock;
    return 0;
}

/* The same for NAME.sock in a directory; NULL and "" are none. */
static int sb_search_in(struct sb_search *search, const char *dir, const char *below)
{
    char path[PATH_MAX];
    if (dir == NULL || dir[0] == '\0')
        return SHMBUS_EMPTY;
    int len = snprintf(path, sizeof(path), "%s%s/%s.sock", dir, below, search->name);
    if (len < 0 || (size_t)len >= sizeof(path))
        return sb_fail(SHMBUS_E_INVALID, "the runtime directory %.64s… is too long", dir);
    return sb_search_at(search, path);
}

/* The same at the path that the bus's memory object names. */
static int sb_search_by_arena(struct sb_search *search)
{
    struct sb_arena_file file;
    int ret = sb_arena_file_open(search->name, &file);
    if (ret == SHMBUS_E_DENIED)
        snprintf(search->denied, sizeof(search->denied), "/dev/shm/shmbus.%s", search->name);
    if (ret) /* what was left by another version shows no way */
        return ret == SHMBUS_E_SYSTEM ? ret : SHMBUS_EMPTY;
    const char *path = file.header.socket_path;
    ret = path[0] == '/' && memchr(path, 0, sizeof(file.header.socket_path))
              ? sb_search_at(search, path)
              : SHMBUS_EMPTY;
    if (ret == 0 && !sb_locate_trusts(file.owner, search->peer)) {
        ret =
            sb_fail(SHMBUS_E_DENIED,
                    "bus %s: /dev/shm/shmbus.%s belongs to uid %u, and uid %u listens at %s, where "
                    "it leads",
                    search->name, search->name, file.owner, search->peer->uid, path);
        close(*search->sock);
        *search->sock = -1;
    }
    sb_arena_file_close(&file);
    return ret;
}

int sb_locate(const char *name, int64_t deadline, int *sock, struct sb_sock_peer *peer)
{
    struct sb_search search = {name, deadline, sock, peer, ""};
    int ret = sb_search_in(&search, secure_getenv("SHMBUS_RUNTIME_DIR"), "");
    if (ret == SHMBUS_EMPTY)
        ret = sb_search_in(&search, "/run/shmbus", "");
    if (ret == SHMBUS_EMPTY)
        ret = sb_search_in(&search, secure_getenv("XDG_RUNTIME_DIR"), "/shmbus");
    if (ret == SHMBUS_EMPTY)
        ret = sb_search_by_arena(&search);
    if (ret != SHMBUS_EMPTY)
        return ret;
    if (search.denied[0])
        return sb_fail(SHMBUS_E_DENIED, "bus %s: permission denied: %s", name, search.denied);
    return sb_fail(SHMBUS_E_NO_BUS, "no such bus %s", name);
}
