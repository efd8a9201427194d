/* Connections whose requests are known but for their inputs, and what is to be done with these. */

#ifndef RALLYPOINT_EDGE_ARMED_H
#define RALLYPOINT_EDGE_ARMED_H

#include "_edge.h"

#define READ_BYTES 4096

typedef struct {
    int fd; /* -1: a free place */
    uint32_t next_free;
    double until_s; /* unix time */
    double seen_at; /* loop time */
    PyObject *owner;
    PyObject *before; /* a request's head up to the content-length */
    PyObject *after;  /* the head behind it */
    PyObject *answer;
    PyObject *token; /* the first field of the message, key and length included */
    PyObject *seat;  /* field 1 of a ClientInput */
    PyObject *room;
    PyObject *key; /* of the bucket */
} Armed;

/* What came from one connection in a drain. */
typedef struct {
    uint32_t slot;
    size_t at; /* in the arena */
    ssize_t size;
    bool known;    /* else it is for Python */
    size_t fields; /* where they start within the data */
    ssize_t answered;
} Came;

/* Whether it is a request as it is known, and where the fields behind its token start. */
bool recognize(const Armed *armed, const uint8_t *data, size_t size, size_t *fields);

/* Inputs for one node, encoded as fields of an AttachRequest. */
typedef struct {
    PyObject *node;
    Buffer data;
    Py_ssize_t count;
    double wait_s;
} Group;

typedef struct {
    Group *items;
    size_t size;
} Groups;

/* Whether inputs may go straight to a node now: 1, 0, or -1 with an exception. */
int has_node(const Armed *armed);
/* Add one input for the room's node, which it has; 0, or -1 with an exception. */
int group_input(Groups *groups, const Armed *armed, const uint8_t *fields, size_t size, double now,
                double lead_s);
/* [(node, data, count, wait_s)] */
PyObject *groups_as_list(const Groups *groups);
void groups_free(Groups *groups);

#endif
