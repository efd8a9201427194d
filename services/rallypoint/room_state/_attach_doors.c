/* The ways into rooms: a `Door` for each, and all of a node by the ids of their rooms. */
#include "_attach.h"

#include <string.h>

const InputsApi *rings_api;
PyTypeObject *door_type;

/* Note what is heard in an array of int64. */
static int hear_into(Door *self, PyObject *heard)
{
    if (PyObject_GetBuffer(heard, &self->heard, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    if ((size_t)self->heard.len >= (size_t)(self->first + self->seats) * HEARD * sizeof(int64_t))
        return 0;
    PyErr_SetString(PyExc_ValueError, "too few numbers for these seats");
    return -1;
}

static PyObject *door_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *rings, *heard = NULL;
    Py_ssize_t first, seats;
    if (!PyArg_ParseTuple(args, "Onn|O", &rings, &first, &seats, &heard))
        return NULL;
    if (!rings_api->is_rings(rings) || seats < 1 || !rings_api->has_seat(rings, first) ||
        !rings_api->has_seat(rings, first + seats - 1))
        return PyErr_Format(PyExc_ValueError, "no rings with these seats");
    Door *self = (Door *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->rings = Py_NewRef(rings);
    self->first = first;
    self->seats = (uint32_t)seats;
    self->generations = PyMem_Calloc((size_t)seats, sizeof(uint32_t));
    if (self->generations == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    if (heard != NULL && hear_into(self, heard) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void door_dealloc(Door *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->rings);
    PyMem_Free(self->generations);
    if (self->heard.obj != NULL)
        PyBuffer_Release(&self->heard);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *door_set(Door *self, unsigned long slot, unsigned long generation)
{
    if (PyErr_Occurred())
        return NULL;
    if (slot >= self->seats || generation > UINT32_MAX)
        return PyErr_Format(PyExc_IndexError, "slot %lu of %u", slot, self->seats);
    self->generations[slot] = (uint32_t)generation;
    Py_RETURN_NONE;
}

static PyObject *door_open(Door *self, PyObject *args)
{
    unsigned long slot, generation;
    if (!PyArg_ParseTuple(args, "kk", &slot, &generation))
        return NULL;
    return door_set(self, slot, generation);
}

static PyObject *door_shut(Door *self, PyObject *slot)
{
    return door_set(self, PyLong_AsUnsignedLong(slot), 0);
}

static PyMethodDef door_methods[] = {
    {"open", (PyCFunction)door_open, METH_VARARGS, "Let a generation send for a slot."},
    {"shut", (PyCFunction)door_shut, METH_O, "Let nobody send for a slot."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot door_slots[] = {
    {Py_tp_new, door_new},
    {Py_tp_dealloc, door_dealloc},
    {Py_tp_methods, door_methods},
    {Py_tp_doc, "Door(rings, first, seats, heard=None): a way into the rings from seat `first` on."},
    {0, NULL},
};

PyType_Spec door_spec = {
    .name = "rallypoint.room_state._attach.Door",
    .basicsize = sizeof(Door),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = door_slots,
};

/* --- all of a node --- */

/* Where a room would be were all places free. Ids are random: some of their last bytes will do. */
static size_t first_place(const Doors *doors, const uint8_t *room, size_t size)
{
    uint64_t tail = 0;
    size_t some = size < sizeof tail ? size : sizeof tail;
    memcpy(&tail, room + size - some, some);
    return (size_t)(tail * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (doors->capacity - 1);
}

/* Where a room is, or would be. */
static size_t place_of(const Doors *doors, const uint8_t *room, size_t size)
{
    size_t at = first_place(doors, room, size);
    for (;; at = (at + 1) & (doors->capacity - 1)) {
        const Place *place = &doors->places[at];
        if (place->door == NULL || (place->size == size && memcmp(place->room, room, size) == 0))
            return at;
    }
}

Door *door_of_room(const Doors *doors, Reader room)
{
    size_t size = (size_t)(room.end - room.at);
    if (doors->used == 0 || size > ROOM_BYTES_MAX)
        return NULL;
    return doors->places[place_of(doors, room.at, size)].door;
}

void fetch_place(const Doors *doors, Reader room)
{
    if (doors->used != 0)
        __builtin_prefetch(&doors->places[first_place(doors, room.at, (size_t)(room.end - room.at))]);
}

static int doors_grow(Doors *self)
{
    size_t before = self->capacity;
    Place *old = self->places;
    size_t capacity = before ? before * 2 : 64;
    Place *places = PyMem_Calloc(capacity, sizeof *places);
    if (places == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->places = places;
    self->capacity = capacity;
    for (size_t at = 0; at < before; at++)
        if (old[at].door != NULL)
            places[place_of(self, old[at].room, old[at].size)] = old[at];
    PyMem_Free(old);
    return 0;
}

static int read_room(PyObject *text, Reader *room)
{
    Py_ssize_t size;
    const char *at = PyUnicode_AsUTF8AndSize(text, &size);
    if (at == NULL)
        return -1;
    *room = (Reader){(const uint8_t *)at, (const uint8_t *)at + size};
    return 0;
}

/* put(room_id, door): the room's door from now on; nothing for an id that is too long. */
static PyObject *doors_put(Doors *self, PyObject *args)
{
    PyObject *text, *door;
    Reader room;
    if (!PyArg_ParseTuple(args, "UO!:put", &text, door_type, &door) || read_room(text, &room) < 0)
        return NULL;
    size_t size = (size_t)(room.end - room.at);
    if (size > ROOM_BYTES_MAX)
        Py_RETURN_NONE;
    if ((self->used + 1) * 2 > self->capacity && doors_grow(self) < 0)
        return NULL;
    Place *place = &self->places[place_of(self, room.at, size)];
    Door *before = place->door;
    self->used += before == NULL;
    place->door = (Door *)Py_NewRef(door);
    place->size = (uint8_t)size;
    memcpy(place->room, room.at, size);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

/* Empty a place, and put again what comes behind it, so that probing finds it. */
static void doors_empty(Doors *self, size_t hole)
{
    size_t mask = self->capacity - 1;
    self->places[hole].door = NULL;
    self->used--;
    for (size_t at = (hole + 1) & mask; self->places[at].door != NULL; at = (at + 1) & mask) {
        Place moved = self->places[at];
        self->places[at].door = NULL;
        self->places[place_of(self, moved.room, moved.size)] = moved;
    }
}

/* remove(room_id, door): the room has this door no more; nothing when it has another by now. */
static PyObject *doors_remove(Doors *self, PyObject *args)
{
    PyObject *text, *door;
    Reader room;
    if (!PyArg_ParseTuple(args, "UO:remove", &text, &door) || read_room(text, &room) < 0)
        return NULL;
    Door *found = door_of_room(self, room);
    if (found != NULL && (PyObject *)found == door) {
        doors_empty(self, place_of(self, room.at, (size_t)(room.end - room.at)));
        Py_DECREF(found);
    }
    Py_RETURN_NONE;
}

static void doors_dealloc(Doors *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (size_t at = 0; at < self->capacity; at++)
        Py_XDECREF(self->places[at].door);
    PyMem_Free(self->places);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef doors_methods[] = {
    {"put", (PyCFunction)doors_put, METH_VARARGS, "Let a room's inputs in by a door."},
    {"remove", (PyCFunction)doors_remove, METH_VARARGS, "Not by that door any more."},
    {"take_inputs", (PyCFunction)take_inputs, METH_O, "Take a request's inputs; its other fields."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot doors_slots[] = {
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, doors_dealloc},
    {Py_tp_methods, doors_methods},
    {Py_tp_doc, "Doors by the ids of their rooms."},
    {0, NULL},
};

PyType_Spec doors_spec = {
    .name = "rallypoint.room_state._attach.Doors",
    .basicsize = sizeof(Doors),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = doors_slots,
};
