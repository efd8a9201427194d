/* What an Attach carries most, in C: inputs out of requests, frames into responses (wire.md §7). */
#ifndef RALLYPOINT_ATTACH_H
#define RALLYPOINT_ATTACH_H

#include "../games/_inputs.h"
#include "../kit/_varints.h"

enum { ACK_TICK, VIEW_MS, MARGIN_MS, CALLS, HEARD }; /* what is heard of a seat */

/* A room's way in: which generation may send inputs for which seat. */
typedef struct {
    PyObject_HEAD
    PyObject *rings;
    Py_ssize_t first;
    uint32_t seats;
    uint32_t *generations; /* of the stream in each seat; 0 for none */
    Py_buffer heard;       /* games/heard.py: HEARD numbers for each seat of the rings, or none */
} Door;

/* The doors of a node by the ids of their rooms. Open addressing, linear probing; an id lies in its
 * place, so that finding a door is one look at memory. */
#define ROOM_BYTES_MAX 55
typedef struct {
    Door *door; /* NULL: a free place */
    uint8_t size;
    uint8_t room[ROOM_BYTES_MAX];
} Place;

typedef struct {
    PyObject_HEAD
    Place *places;
    size_t capacity; /* a power of two, or 0 */
    size_t used;
} Doors;

extern const InputsApi *rings_api;
extern PyType_Spec door_spec, doors_spec;
extern PyTypeObject *door_type;

/* The door of a room, borrowed; NULL when none is known. */
Door *door_of_room(const Doors *doors, Reader room);

/* Have the processor fetch where `door_of_room` looks first. */
void fetch_place(const Doors *doors, Reader room);

/* Doors.take_inputs: the inputs of an encoded AttachRequest go to their seats; its other fields, and
 * inputs of rooms without a door, are returned as they were, to be parsed by protobuf. */
PyObject *take_inputs(Doors *doors, PyObject *data);

PyObject *join_frames(PyObject *module, PyObject *frames);
PyObject *join_rows(PyObject *module, PyObject *args);

#endif
