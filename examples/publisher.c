/* SPDX-License-Identifier: Apache-2.0 */
#include <shmbus/shmbus.h>
#include <stdio.h>

int main(void)
{
    struct shmbus_conn *conn;
    struct shmbus_delivery to;
    int rc = shmbus_connect("demo", NULL, &conn);
    if (rc == 0)
        rc = shmbus_publish(conn, shmbus_text("room/1/temperature"), "21.5", 4, NULL, &to);
    if (rc != 0) {
        fprintf(stderr, "publisher: %s\n", shmbus_errmsg());
        return 1;
    }
    printf("published to %u queues\n", to.matched - to.refused);
    shmbus_conn_free(conn);
    return 0;
}
