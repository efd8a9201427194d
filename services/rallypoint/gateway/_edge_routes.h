/* Clients of one node by number: which slot of the sender is theirs while they are in step. */

#ifndef RALLYPOINT_EDGE_ROUTES_H
#define RALLYPOINT_EDGE_ROUTES_H

#include "_edge.h"

#define NO_SLOT UINT32_MAX

/* Open addressing, linear probing; client 0 is nobody's number and marks a free place. */
typedef struct {
    uint32_t client;
    uint32_t slot;
} Place;

typedef struct {
    PyObject_HEAD
    Sender *sender;
    Place *places;
    size_t capacity; /* a power of two */
    size_t used;
} Routes;

static inline size_t place_of(const Routes *routes, uint32_t client)
{
    size_t at = (client * 2654435769u) & (routes->capacity - 1);
    while (routes->places[at].client != client && routes->places[at].client != 0)
        at = (at + 1) & (routes->capacity - 1);
    return at;
}

static inline uint32_t slot_of(const Routes *routes, uint32_t client)
{
    if (routes->used == 0 || client == 0)
        return NO_SLOT;
    const Place *place = &routes->places[place_of(routes, client)];
    return place->client == client ? place->slot : NO_SLOT;
}

/* Start reading an encoded AttachResponse; `data` is bytes. */
PyObject *flush_open(Routes *routes, PyObject *data);

#endif
