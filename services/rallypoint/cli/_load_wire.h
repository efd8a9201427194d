/* What the load reads of the wire: protobuf fields, the seats table's ack, chunks, answers.
 *
 * docs/wire.md is the contract; tests/unit/cli/test_load_wire.py compares this with the Python
 * client. Nothing here does I/O or allocates but for `Bytes`. */
#ifndef RALLYPOINT_LOAD_WIRE_H
#define RALLYPOINT_LOAD_WIRE_H

#include "../kit/_varints.h"

#include <stdlib.h>
#include <string.h>

/* --- bytes that grow --- */

typedef struct {
    uint8_t *data;
    size_t len, cap;
} Bytes;

static int bytes_add(Bytes *b, const void *data, size_t len)
{
    if (len == 0)
        return 0;
    if (b->len + len > b->cap) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap < b->len + len)
            cap *= 2;
        uint8_t *grown = realloc(b->data, cap);
        if (!grown)
            return -1;
        b->data = grown;
        b->cap = cap;
    }
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return 0;
}

static void bytes_drop(Bytes *b, size_t len)
{
    b->len -= len;
    if (b->len)
        memmove(b->data, b->data + len, b->len);
}

static void bytes_free(Bytes *b)
{
    free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

/* --- protobuf --- */

typedef struct {
    uint32_t number, wire;
    uint64_t value; /* of wire types 0, 1 and 5 */
    Reader inner;   /* of wire type 2 */
} Field;

/* How many bytes the value of this wire type has, a length before it read; -1: malformed. */
static int read_size(Reader *r, uint32_t wire, uint64_t *size)
{
    switch (wire) {
    case 1:
        *size = 8;
        return 0;
    case 2:
        return read_varint(r, size) ? 0 : -1;
    case 5:
        *size = 4;
        return 0;
    default:
        return -1;
    }
}

/* 1 and the next field; 0 at the end, or before something malformed, where the reader then stays. */
static int read_field(Reader *r, Field *f)
{
    Reader left = *r;
    uint64_t key, size = 0;
    if (!read_varint(&left, &key))
        return 0;
    f->number = (uint32_t)(key >> 3);
    f->wire = key & 7;
    f->value = 0;
    f->inner = (Reader){left.at, left.at}; /* nothing, should it be read as what it is not */
    if (f->wire == 0) {
        if (!read_varint(&left, &f->value))
            return 0;
    } else {
        if (read_size(&left, f->wire, &size) < 0 || size > (uint64_t)(left.end - left.at))
            return 0;
        f->inner = (Reader){left.at, left.at + size};
        if (f->wire != 2)
            memcpy(&f->value, left.at, size);
        left.at += size;
    }
    *r = left;
    return 1;
}

/* --- table 0, `seats`: column 0 is `ack`, U16 --- */

enum { ACK_ABSENT = -1, ACK_MALFORMED = -2 };

static int seats_ack(const uint8_t *data, size_t len, unsigned rows, unsigned slot)
{
    size_t mask = (rows + 7) / 8, before = 0;
    if (len < 1 || slot >= rows)
        return ACK_MALFORMED;
    if (!(data[0] & 1))
        return ACK_ABSENT;
    const uint8_t *set = data + 1;
    if (len < 1 + mask)
        return ACK_MALFORMED;
    if (!(set[slot / 8] >> (slot % 8) & 1))
        return ACK_ABSENT;
    for (unsigned row = 0; row < slot; row++)
        before += set[row / 8] >> (row % 8) & 1;
    const uint8_t *value = set + mask + 2 * before;
    if (value + 2 > data + len)
        return ACK_MALFORMED;
    return value[0] | value[1] << 8;
}

static int section_ack(Reader section, unsigned rows, unsigned slot)
{
    Field f;
    Reader data = {0};
    uint64_t table = 0;
    while (read_field(&section, &f)) {
        if (f.number == 1)
            table = f.value;
        if (f.number == 3 && f.wire == 2)
            data = f.inner;
    }
    if (section.at < section.end)
        return ACK_MALFORMED;
    if (table != 0 || !data.at)
        return ACK_ABSENT;
    return seats_ack(data.at, (size_t)(data.end - data.at), rows, slot);
}

/* --- frames --- */

typedef struct {
    uint64_t epoch, tick, base;
    int ack, events;
} Glance;

/* What a Frame says of itself and of one seat; 0 when it is malformed. */
static int glance_frame(Reader frame, unsigned rows, unsigned slot, Glance *seen)
{
    Field f;
    *seen = (Glance){.ack = ACK_ABSENT};
    while (read_field(&frame, &f)) {
        if (f.number == 1)
            seen->epoch = f.value;
        if (f.number == 2)
            seen->tick = f.value;
        if (f.number == 3)
            seen->base = f.value;
        if (f.number == 4 && f.wire == 2 && seen->ack == ACK_ABSENT)
            seen->ack = section_ack(f.inner, rows, slot);
        seen->events += f.number == 5;
    }
    return frame.at == frame.end && seen->ack != ACK_MALFORMED;
}

/* The low 16 bits of a seq widened to the seq that lies nearest after `known`. */
static uint64_t widen(uint64_t known, unsigned low)
{
    unsigned ahead = (low - (unsigned)known) & 0xffff;
    return ahead < 0x8000 ? known + ahead : known;
}

/* --- HTTP --- */

typedef struct {
    enum { HEAD, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, PLAIN, LAST } state;
    size_t left, matched; /* of the chunk; of the blank line */
} Http;

/* The length of a head that is complete in `data`, its blank line included, or 0. */
static size_t head_length(const uint8_t *data, size_t len)
{
    const uint8_t *end = memmem(data, len, "\r\n\r\n", 4);
    return end ? (size_t)(end - data) + 4 : 0;
}

static int head_status(const uint8_t *head, size_t len)
{
    return len > 12 && !memcmp(head, "HTTP/1.1 ", 9) ? atoi((const char *)head + 9) : 0;
}

/* The number of a header or trailer line that starts with `name` (lower case), or -1. */
static long line_number(const uint8_t *data, size_t len, const char *name)
{
    size_t size = strlen(name);
    const uint8_t *at = memmem(data, len, name, size);
    if (!at)
        return -1;
    at += size;
    while (at < data + len && *at == ' ')
        at++;
    long number = -1;
    while (at < data + len && *at >= '0' && *at <= '9')
        number = (number < 0 ? 0 : number * 10) + (*at++ - '0');
    return number;
}

/* Takes bytes of a chunked body; sets the next span of content and returns how many bytes were
 * used, 0 at the end of `data`, -1 for what is no chunk. Any cut of the bytes is fine. */
static long dechunk(Http *h, const uint8_t *data, size_t len, const uint8_t **span, size_t *size)
{
    size_t at = 0;
    *size = 0;
    while (at < len) {
        uint8_t c = data[at];
        switch (h->state) {
        case CHUNK_SIZE:
            at++;
            if (c >= '0' && c <= '9')
                h->left = h->left * 16 + (c - '0');
            else if ((c | 32) >= 'a' && (c | 32) <= 'f')
                h->left = h->left * 16 + ((c | 32) - 'a' + 10);
            else if (c == '\n')
                h->state = h->left ? CHUNK_DATA : LAST;
            else if (c != '\r')
                return -1;
            break;
        case CHUNK_DATA: {
            size_t part = len - at < h->left ? len - at : h->left;
            *span = data + at;
            *size = part;
            h->left -= part;
            if (!h->left)
                h->state = CHUNK_END;
            return (long)(at + part);
        }
        case CHUNK_END:
            at++;
            if (c == '\n')
                h->state = CHUNK_SIZE;
            break;
        case PLAIN:
            *span = data;
            *size = len;
            return (long)len;
        default:
            return (long)len; /* after the last chunk */
        }
    }
    return (long)at;
}

#endif
