/* Rings of inputs in C: `InputRings.offer` and `take` of inputs.py, with the same outcome.
 *
 * The arrays (applied, fresh, newest, current and held values) are numpy's and stay with the Python
 * object; what waits is here, in order of arrival, and compacted in place after each tick.
 */
#ifndef RALLYPOINT_INPUTS_RINGS_H
#define RALLYPOINT_INPUTS_RINGS_H

#include "_inputs.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the wire is little endian, and so must the machine be; numpy does it elsewhere"
#endif

#define RING 32

enum { U8 = 1, U16, U32, I8, I16, I32, F32, Q8, Q16, FLAG = 0 };

/* `low` and `high` are the bounds of a number, or where a quantized one begins and how far it
 * goes; `instead` is what NaN becomes. */
typedef struct {
    int kind;
    size_t offset, width, item;
    double low, high, instead;
    Py_buffer current, held;
} Column;

typedef struct {
    PyObject_HEAD
    Py_ssize_t count, columns, zeroed;
    size_t size, waiting, room, limit;
    int idle_zero;
    long long refused;
    Column *column;
    Py_buffer *zero;
    Py_buffer newest_of, applied_of, fresh_of;
    int64_t *newest, *applied, *fresh;
    int32_t *seen; /* per seat, scratch of a tick */
    InputArrival *arrival;
    uint8_t *data;
} Rings;

/* InputRings.take (_inputs_take.c). */
PyObject *take_due(Rings *self, PyObject *ignored);

#endif
