/* Protobuf's numbers in base 128, for all that is in C here. */
#ifndef RALLYPOINT_VARINTS_H
#define RALLYPOINT_VARINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VARINT_MOST 10 /* bytes of the longest one */

/* What is left to read. */
typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} Reader;

/* False where there is none, or only its beginning. */
static inline bool read_varint(Reader *from, uint64_t *value)
{
    uint64_t number = 0;
    for (int shift = 0; shift < 7 * VARINT_MOST && from->at < from->end; shift += 7) {
        uint8_t byte = *from->at++;
        number |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *value = number;
            return true;
        }
    }
    return false;
}

/* Where the bytes behind it go. */
static inline uint8_t *put_varint(uint8_t *at, uint64_t value)
{
    while (value > 0x7F) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static inline size_t varint_size(uint64_t value)
{
    size_t size = 1;
    while (value >>= 7)
        size++;
    return size;
}

#endif
