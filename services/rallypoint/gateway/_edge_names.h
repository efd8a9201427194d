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

/* Where a class keeps an attribute. */
typedef struct {
    PyObject *text;
    PyTypeObject *type; /* the last class asked, held */
    Py_ssize_t offset;  /* 0: it has no such slot */
} Known;

extern Known known_names[NAMES];

/* Ask the object's class; NULL without an exception where it has no such slot. */
PyObject **place_anew(PyObject *object, enum Name name);

/* Where the object keeps it; NULL when it has to be asked. */
static inline PyObject **place_in(PyObject *object, enum Name name)
{
    const Known *known = &known_names[name];
    if (known->type != Py_TYPE(object))
        return place_anew(object, name);
    return known->offset == 0 ? NULL : (PyObject **)((char *)object + known->offset);
}

/* Borrowed, and only where it lies in a slot; NULL without an exception when not. */
static inline PyObject *peek(PyObject *object, enum Name name)
{
    PyObject **place = place_in(object, name);
    return place == NULL ? NULL : *place;
}

/* The same for whatever object: `*held`, NULL so far, is to be released when done with it. NULL with
   an exception. */
PyObject *attribute(PyObject *object, enum Name name, PyObject **held);

/* 0, or -1 with an exception. */
int set_attribute(PyObject *object, enum Name name, PyObject *value);
int number_of(PyObject *object, enum Name name, double *number);
int set_number(PyObject *object, enum Name name, double number);

#endif
