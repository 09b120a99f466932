/* SPDX-License-Identifier: Apache-2.0 */
/* Messages as JSON objects. */
#include "output.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <shmbus/publish.h>

const char *encoding_word(unsigned encoding)
{
    static const char *const words[] = {
        [SHMBUS_BYTES] = "bytes", [SHMBUS_UTF8] = "utf8",       [SHMBUS_JSON] = "json",
        [SHMBUS_CBOR] = "cbor",   [SHMBUS_MSGPACK] = "msgpack", [SHMBUS_PROTOBUF] = "protobuf",
    };
    return encoding < sizeof(words) / sizeof(words[0]) ? words[encoding] : NULL;
}

/* The bytes in base64 (RFC 4648, padded), to be freed; NULL if memory ran out. */
static char *base64(const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((size + 2) / 3 * 4 + 1);
    if (text == NULL)
        return NULL;
    char *out = text;
    for (size_t at = 0; at < size; at += 3) {
        size_t left = size - at;
        uint32_t group = (uint32_t)bytes[at] << 16;
        if (left > 1)
            group |= (uint32_t)bytes[at + 1] << 8;
        if (left > 2)
            group |= bytes[at + 2];
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *out++ = left > 2 ? digits[group & 63] : '=';
    }
    *out = '\0';
    return text;
}

/* The bytes as a string, or where they are no UTF-8, in base64; *encoding says which. */
static json_t *json_bytes(const void *bytes, size_t size, const char **encoding)
{
    json_t *string = json_stringn(size > 0 ? bytes : "", size); /* refuses what is no UTF-8 */
    *encoding = string != NULL ? "utf8" : "base64";
    if (string != NULL)
        return string;
    char *digits = base64(bytes, size);
    string = digits != NULL ? json_string(digits) : NULL;
    free(digits);
    return string;
}

/* A number, or nothing for 0, which stands for what is absent. */
static json_t *json_present(int64_t number)
{
    return number != 0 ? json_integer(number) : NULL;
}

static json_t *json_origin(const struct shmbus_origin *origin)
{
    const char *encoding;
    json_t *principal = json_bytes(origin->principal, origin->principal_len, &encoding);
    return json_pack("{ss ss so ss* sI sI so* ss* ss* ss* so*}", "kind", origin->kind, "conn_id",
                     origin->conn_id, "principal", principal, "principal_encoding",
                     strcmp(encoding, "utf8") != 0 ? encoding : NULL, "uid",
                     (json_int_t)origin->uid, "gid", (json_int_t)origin->gid, "pid",
                     json_present(origin->pid), "link_id", origin->link_id, "peer_node",
                     origin->peer_node, "peer_sid", origin->peer_sid, "generation",
                     json_present(origin->generation));
}

json_t *json_message(const struct shmbus_message *message)
{
    const char *clock = message->clock == SHMBUS_CLOCK_REALTIME    ? "realtime"
                        : message->clock == SHMBUS_CLOCK_MONOTONIC ? "monotonic"
                                                                   : NULL;
    const char *encoding;
    json_t *payload = json_bytes(message->payload, message->size, &encoding);
    return json_pack("{ss so ss ss* sI so* ss* sI sb so}", "topic", message->topic->text, "payload",
                     payload, "payload_encoding", encoding, "encoding",
                     encoding_word(message->encoding), "seq", (json_int_t)message->seq, "time_ns",
                     clock != NULL ? json_integer((json_int_t)message->time_ns) : NULL, "clock",
                     clock, "lost_before", (json_int_t)message->lost_before, "replay", 0, "origin",
                     json_origin(message->origin));
}
