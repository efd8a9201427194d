/* A lane's sections as bytes: which values changed, and the values. */
#include "_sections.h"

#include <string.h>

#define OUTER_TAG 0x22
#define TABLE_TAG 0x08
#define VISIBILITY_TAG 0x10
#define INNER_TAG 0x1A
#define BIG 6755399441055744.0 /* 1.5 * 2^52: adding it rounds half to even into the low bits */

/* Clamp, round half to even, NaN is 0: codec.quantize. */
static inline uint64_t quantized(double value, const Column *column)
{
    double steps = (value - column->low) * column->scale;
    uint64_t bits;
    steps = steps > 0.0 ? steps : 0.0;
    steps = steps < column->top ? steps : column->top;
    steps += BIG;
    memcpy(&bits, &steps, sizeof bits);
    return bits;
}

static void quantize_16(const Column *column, const double *from, uint16_t *to, uint32_t rows)
{
    for (uint32_t row = 0; row < rows; row++)
        to[row] = (uint16_t)quantized(from[row], column);
}

static void quantize_8(const Column *column, const double *from, uint8_t *to, uint32_t rows)
{
    for (uint32_t row = 0; row < rows; row++)
        to[row] = (uint8_t)quantized(from[row], column);
}

/* Write mask and values of the rows that differ; `old` NULL stands for zeros. The mask is cleared. */
#define WRITE_CHANGED(NAME, TYPE)                                                               \
    static uint8_t *NAME(const uint8_t *now, const uint8_t *old, uint32_t rows, uint8_t *mask,  \
                         uint8_t *at)                                                           \
    {                                                                                           \
        for (uint32_t row = 0; row < rows; row++) {                                             \
            TYPE number, before = 0;                                                            \
            memcpy(&number, now + row * sizeof(TYPE), sizeof(TYPE));                            \
            if (old != NULL)                                                                    \
                memcpy(&before, old + row * sizeof(TYPE), sizeof(TYPE));                        \
            unsigned changed = number != before;                                                \
            memcpy(at, &number, sizeof(TYPE));                                                  \
            at += changed * sizeof(TYPE);                                                       \
            mask[row >> 3] |= (uint8_t)(changed << (row & 7));                                  \
        }                                                                                       \
        return at;                                                                              \
    }
WRITE_CHANGED(write_1, uint8_t)
WRITE_CHANGED(write_2, uint16_t)
WRITE_CHANGED(write_4, uint32_t)

/* One column's mask and values; `at` itself when nothing differs. */
static uint8_t *write_column(const Column *column, const TableOf *table, const uint8_t *now,
                             const uint8_t *old, uint8_t *at)
{
    uint8_t *mask = at, *first = at + table->row_mask, *end;
    memset(mask, 0, table->row_mask);
    if (column->width == 1)
        end = write_1(now, old, table->rows, mask, first);
    else if (column->width == 2)
        end = write_2(now, old, table->rows, mask, first);
    else
        end = write_4(now, old, table->rows, mask, first);
    return end == first ? at : end;
}

/* One column against what was sent last, which becomes what is now. */
static uint8_t *write_delta(Encoder *self, const Column *column, const TableOf *table,
                            Py_ssize_t lane, uint8_t *at)
{
    uint8_t *state = self->state + (size_t)lane * self->lane_size;
    uint8_t *sent = state + column->sent_at;
    const char *source = column->values + (size_t)lane * column->stride;
    uint8_t *end;
    if (!column->quantized) {
        if (memcmp(source, sent, column->size) == 0)
            return at;
        end = write_column(column, table, (const uint8_t *)source, sent, at);
        memcpy(sent, source, column->size);
        return end;
    }
    uint8_t *seen = state + column->seen_at;
    if (memcmp(source, seen, column->stride) == 0)
        return at;
    memcpy(seen, source, column->stride);
    uint8_t *numbers = self->body + self->most; /* behind the body there is room for one column */
    if (column->width == 2)
        quantize_16(column, (const double *)source, (uint16_t *)numbers, table->rows);
    else
        quantize_8(column, (const double *)source, numbers, table->rows);
    end = write_column(column, table, numbers, sent, at);
    memcpy(sent, numbers, column->size);
    return end;
}

static uint8_t *write_keyframe(Encoder *self, const Column *column, const TableOf *table,
                               Py_ssize_t lane, uint8_t *at)
{
    const uint8_t *sent = self->state + (size_t)lane * self->lane_size + column->sent_at;
    return write_column(column, table, sent, NULL, at);
}

typedef uint8_t *(*Writer)(Encoder *, const Column *, const TableOf *, Py_ssize_t, uint8_t *);

/* One table's section, nothing when no column has anything to tell. */
static uint8_t *write_section(Encoder *self, const TableOf *table, Py_ssize_t lane, Writer writer,
                              uint8_t *out)
{
    uint8_t *mask = self->body, *at = mask + table->column_mask, *first = at;
    memset(mask, 0, table->column_mask);
    for (uint32_t place = 0; place < table->columns; place++) {
        uint8_t *end = writer(self, self->column + table->first + place, table, lane, at);
        mask[place >> 3] |= (uint8_t)((end != at) << (place & 7));
        at = end;
    }
    if (at == first)
        return out;
    size_t inner = (size_t)(at - mask);
    *out++ = OUTER_TAG;
    out = put_varint(out, FIXED_INNER + varint_size(inner) + inner);
    *out++ = TABLE_TAG;
    *out++ = table->id;
    *out++ = VISIBILITY_TAG;
    *out++ = table->visibility;
    *out++ = INNER_TAG;
    out = put_varint(out, inner);
    memcpy(out, mask, inner);
    return out + inner;
}

static uint8_t *write_sections(Encoder *self, Py_ssize_t lane, Writer writer)
{
    uint8_t *out = self->scratch;
    for (Py_ssize_t place = 0; place < self->tables; place++)
        out = write_section(self, self->table + place, lane, writer, out);
    return out;
}

uint8_t *write_deltas(Encoder *self, Py_ssize_t lane)
{
    return write_sections(self, lane, write_delta);
}

uint8_t *write_keyframes(Encoder *self, Py_ssize_t lane)
{
    return write_sections(self, lane, write_keyframe);
}
