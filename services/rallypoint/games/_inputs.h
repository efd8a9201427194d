/* How another module in C hands inputs to a `Rings`: through a capsule, since neither links the
 * other. `seat` must be below `Rings.count`; `rings` must be a `Rings` (ask `is_rings`).
 */
#ifndef RALLYPOINT_INPUTS_H
#define RALLYPOINT_INPUTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define INPUTS_CAPSULE "rallypoint.games._inputs._capi"
#define MOST_INPUTS 64 /* of one call; a client sends at most 8 */

typedef struct {
    const uint8_t *data;
    size_t size;
} InputBytes;

typedef struct {
    Py_ssize_t seat;
    int64_t seq;
} InputArrival;

/* What waits for all seats, in order of arrival; good until the rings are touched. */
typedef struct {
    const InputArrival *arrival;
    const uint8_t *data; /* `size` bytes for each */
    size_t count, size;
} InputsWaiting;

typedef struct {
    int (*is_rings)(PyObject *rings);
    /* Whether `seat` has a ring. */
    int (*has_seat)(PyObject *rings, Py_ssize_t seat);
    /* InputRings.offer; -1 with an exception set when memory is short. */
    int (*offer)(PyObject *rings, Py_ssize_t seat, int64_t first_seq, const InputBytes *inputs,
                 size_t count);
    InputsWaiting (*waiting)(PyObject *rings);
    /* Have the processor fetch what `offer` looks at of a seat. */
    void (*fetch)(PyObject *rings, Py_ssize_t seat);
} InputsApi;

#endif
