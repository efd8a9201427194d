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
    uint8_t call;   /* of a WebSocket's lane; 0: the connection carries POSTs */
    PyObject *owner;
    PyObject *before; /* a request's head up to the content-length */
    PyObject *after;  /* the head behind it */
    PyObject *answer;
    PyObject *token; /* the first field of the message, key and length included */
    PyObject *seat;  /* field 1 of a ClientInput */
    PyObject *room;
    PyObject *bucket; /* the player's: domain/buckets.py */
} Armed;

/* One request or message that came in a drain, or what is none; those of one read come in order. */
typedef struct {
    uint32_t slot;
    size_t at;     /* in the arena */
    size_t size;   /* to the end of what was read */
    bool known;    /* else it is for Python, with all behind it */
    bool behind;   /* one that is not known was before it */
    size_t fields; /* in the arena: what follows the token */
    size_t fields_size;
    ssize_t answered;
} Came;

/* A whole read as a request that is known: where the fields behind its token start, else 0. */
size_t recognize_post(const Armed *armed, const uint8_t *data, size_t size);
/* The message of a WebSocket frame, unmasked, as one of the lane: the same. */
size_t recognize_message(const Armed *armed, const uint8_t *data, size_t size);

/* Inputs for one node, encoded as fields of an AttachRequest. */
typedef struct {
    PyObject *node;
    Buffer data;
    Py_ssize_t count;
    double wait_s; /* of the one that may wait least */
    double next_s; /* of those that may wait at all */
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
/* [(node, data, count, wait_s, next_s)] */
PyObject *groups_as_list(const Groups *groups);
void groups_free(Groups *groups);

#endif
