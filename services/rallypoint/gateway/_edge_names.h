/* Attributes of the gateway's own objects, read and written where their class keeps them. */

#ifndef RALLYPOINT_EDGE_NAMES_H
#define RALLYPOINT_EDGE_NAMES_H

#include "_edge.h"

/* Names of the same text are apart when classes differ: each remembers its last class. */
enum Name {
    NODE,
    HOLD,
    USED,
    RHYTHM,
    SEEN_AT,
    PERIOD_S,
    BUCKET_FULL_AT,
    EPOCH,
    STREAMS,
    UNSETTLED,
    ROOM_FULL_AT,
    NAMES
};

/* Borrowed, and only where it lies in a slot; NULL without an exception when not. */
PyObject *peek(PyObject *object, enum Name name);
/* A new reference, NULL with an exception. */
PyObject *attribute(PyObject *object, enum Name name);
/* 0, or -1 with an exception. */
int set_attribute(PyObject *object, enum Name name, PyObject *value);
int number_of(PyObject *object, enum Name name, double *number);

#endif
