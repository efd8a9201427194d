/* The encoder of sections in C: what encoder.py does with numpy, byte for byte (docs/wire.md §3).
 *
 * A lane is one receiver: a room for SHARED tables, a seat for OWNER ones. Columns are read where
 * they lie, in the arena's arrays, through the buffer protocol: run of columns by lanes by rows.
 * For each lane the encoder keeps the wire numbers sent last, all columns one after the other, and
 * for quantized columns also the doubles they were made from, since most have not changed a bit.
 */
#ifndef RALLYPOINT_SECTIONS_H
#define RALLYPOINT_SECTIONS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../kit/_varints.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the wire is little endian, and so must the machine be; numpy does it elsewhere"
#endif

typedef struct {
    const char *values; /* the column's first lane */
    size_t stride;      /* bytes from lane to lane in `values` */
    size_t sent_at;     /* offset of the wire numbers in a lane's state */
    size_t seen_at;     /* offset of the doubles they were made from; quantized columns only */
    size_t size;        /* bytes of the wire numbers of all rows */
    double low, scale, top;
    uint8_t width, quantized;
} Column;

typedef struct {
    uint8_t id, visibility;
    uint32_t rows, columns, first; /* `first` is the place of its first column */
    size_t row_mask, column_mask;  /* bytes of one mask */
} TableOf;

typedef struct {
    PyObject_HEAD
    Py_ssize_t lanes, tables, columns, held;
    TableOf *table;
    Column *column;
    Py_buffer *buffers;
    size_t lane_size, seen_start, most; /* `most` is the most bytes a lane's sections can have */
    uint8_t *state, *scratch, *body;
} Encoder;

/* --- what lies where (_sections_layout.c) --- */

#define FIXED_INNER 5 /* table and visibility with their tags, and the tag of data */

/* The tables of a list of (id, visibility, rows, columns, runs); -1 with an exception. */
int lay_out(Encoder *self, PyObject *tables);

void forget_lane(Encoder *self, Py_ssize_t lane);

/* --- bytes (_sections_write.c) --- */

/* A lane against what was sent last, which becomes what is now: into `scratch`; where it ends. */
uint8_t *write_deltas(Encoder *self, Py_ssize_t lane);

/* What was sent last, against zeros. */
uint8_t *write_keyframes(Encoder *self, Py_ssize_t lane);

#endif
