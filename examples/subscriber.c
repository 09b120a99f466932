/* SPDX-License-Identifier: Apache-2.0 */
#include <shmbus/shmbus.h>
#include <stdio.h>

int main(void)
{
    struct shmbus_conn *conn;
    struct shmbus_sub *sub;
    struct shmbus_message m;
    int rc = shmbus_connect("demo", NULL, &conn);
    if (rc == 0)
        rc = shmbus_subscribe(conn, shmbus_text("room/+/temperature"), NULL, &sub);
    while (rc == 0 && (rc = shmbus_recv(sub, &m, SHMBUS_FOREVER)) == 0) {
        printf("%s %.*s\n", m.topic->text, (int)m.size, (const char *)m.payload);
        fflush(stdout);
        shmbus_release(&m);
    }
    fprintf(stderr, "subscriber: %s\n", rc < 0 ? shmbus_errmsg() : shmbus_sub_why(sub));
    return 1;
}
