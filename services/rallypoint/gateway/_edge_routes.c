/* The table of clients in step: a mapping from client numbers to slots. */

#include "_edge_routes.h"

#include <stdlib.h>

static int routes_grow(Routes *self)
{
    size_t before = self->capacity;
    Place *old = self->places;
    size_t capacity = before ? before * 2 : 64;
    Place *places = calloc(capacity, sizeof *places);
    if (places == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->places = places;
    self->capacity = capacity;
    for (size_t i = 0; i < before; i++)
        if (old[i].client != 0)
            places[place_of(self, old[i].client)] = old[i];
    free(old);
    return 0;
}

static void routes_forget(Routes *self, uint32_t client)
{
    if (slot_of(self, client) == NO_SLOT)
        return;
    size_t mask = self->capacity - 1;
    size_t hole = place_of(self, client);
    self->places[hole].client = 0;
    self->used--;
    /* What comes behind the hole is put again, so that probing finds it. */
    for (size_t at = (hole + 1) & mask; self->places[at].client != 0; at = (at + 1) & mask) {
        Place moved = self->places[at];
        self->places[at].client = 0;
        self->places[place_of(self, moved.client)] = moved;
    }
}

static int as_uint32(PyObject *number, uint32_t *value)
{
    unsigned long found = PyLong_AsUnsignedLong(number);
    if (found == (unsigned long)-1 && PyErr_Occurred())
        return -1;
    if (found >= NO_SLOT) {
        PyErr_SetString(PyExc_OverflowError, "not a number of 32 bits");
        return -1;
    }
    *value = (uint32_t)found;
    return 0;
}

static int routes_set(Routes *self, PyObject *key, PyObject *value)
{
    uint32_t client, slot;
    if (as_uint32(key, &client) < 0)
        return -1;
    if (value == NULL) {
        routes_forget(self, client);
        return 0;
    }
    if (as_uint32(value, &slot) < 0)
        return -1;
    if (client == 0) {
        PyErr_SetString(PyExc_ValueError, "clients are numbered from 1");
        return -1;
    }
    if ((self->used + 1) * 2 > self->capacity && routes_grow(self) < 0)
        return -1;
    Place *place = &self->places[place_of(self, client)];
    self->used += place->client == 0;
    *place = (Place){client, slot};
    return 0;
}

static PyObject *routes_get(Routes *self, PyObject *key)
{
    uint32_t client;
    if (as_uint32(key, &client) < 0)
        return NULL;
    uint32_t slot = slot_of(self, client);
    if (slot == NO_SLOT) {
        PyErr_SetObject(PyExc_KeyError, key);
        return NULL;
    }
    return PyLong_FromUnsignedLong(slot);
}

static PyObject *routes_discard(Routes *self, PyObject *key)
{
    uint32_t client;
    if (as_uint32(key, &client) < 0)
        return NULL;
    routes_forget(self, client);
    Py_RETURN_NONE;
}

static PyObject *routes_clear(Routes *self, PyObject *unused)
{
    (void)unused;
    free(self->places);
    self->places = NULL;
    self->capacity = self->used = 0;
    Py_RETURN_NONE;
}

static Py_ssize_t routes_len(Routes *self)
{
    return (Py_ssize_t)self->used;
}

static int routes_contains(Routes *self, PyObject *key)
{
    uint32_t client;
    if (as_uint32(key, &client) < 0)
        return -1;
    return slot_of(self, client) != NO_SLOT;
}

static PyObject *routes_read(Routes *self, PyObject *data)
{
    return flush_open(self, data);
}

static PyObject *routes_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *sender;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!:Routes", &SenderType, &sender))
        return NULL;
    Routes *self = (Routes *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->sender = (Sender *)Py_NewRef(sender);
    return (PyObject *)self;
}

static void routes_dealloc(Routes *self)
{
    free(self->places);
    Py_XDECREF(self->sender);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef routes_methods[] = {
    {"discard", (PyCFunction)routes_discard, METH_O, NULL},
    {"clear", (PyCFunction)routes_clear, METH_NOARGS, NULL},
    {"read", (PyCFunction)routes_read, METH_O, NULL},
    {0},
};

static PyMappingMethods routes_mapping = {
    .mp_length = (lenfunc)routes_len,
    .mp_subscript = (binaryfunc)routes_get,
    .mp_ass_subscript = (objobjargproc)routes_set,
};

static PySequenceMethods routes_sequence = {
    .sq_contains = (objobjproc)routes_contains,
};

PyTypeObject RoutesType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "rallypoint.gateway._edge.Routes",
    .tp_basicsize = sizeof(Routes),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = routes_new,
    .tp_dealloc = (destructor)routes_dealloc,
    .tp_methods = routes_methods,
    .tp_as_mapping = &routes_mapping,
    .tp_as_sequence = &routes_sequence,
};
