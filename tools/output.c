/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "stop.h"

/* Leaves out of parts what has been written. */
static int parts_advance(struct iovec **parts, int count, size_t written)
{
    while (count > 0 && written >= (*parts)->iov_len) {
        written -= (*parts)->iov_len;
        (*parts)++;
        count--;
    }
    if (count > 0) {
        (*parts)->iov_base = (char *)(*parts)->iov_base + written;
        (*parts)->iov_len -= written;
    }
    return count;
}

int out_parts(struct iovec *parts, int count)
{
    while (count > 0) {
        ssize_t written = writev(STDOUT_FILENO, parts, count);
        if (written >= 0)
            count = parts_advance(&parts, count, (size_t)written);
        else if (errno == EPIPE || errno == EBADF)
            return 1;
        else if (errno == EAGAIN)
            (void)poll(&(struct pollfd){.fd = STDOUT_FILENO, .events = POLLOUT}, 1, -1);
        else if (errno != EINTR)
            return -errno;
        if (written < 0 && stop_requested())
            return 1;
    }
    return 0;
}

int out_text(const char *text, size_t size)
{
    struct iovec part = {.iov_base = (char *)text, .iov_len = size};
    return out_parts(&part, 1);
}

int out_json(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL)
        return -ENOMEM;
    struct iovec parts[] = {{.iov_base = text, .iov_len = strlen(text)},
                            {.iov_base = "\n", .iov_len = 1}};
    int rc = out_parts(parts, 2);
    free(text);
    return rc;
}

bool out_abandoned(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    return poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLNVAL)) != 0;
}
