/* What a snapshot has of a room's columns and inputs, for many rooms in one call: the fields
 * `columns` and `inputs` of EngineSnapshot, byte for byte as packing.py writes them.
 *
 * Columns are read where they lie, in the arena's runs (columns by rooms by rows); what a seat sees
 * and holds in numpy's arrays; what waits for it in the rings, through their capsule.
 */
#include "../games/_inputs.h"
#include "../kit/_varints.h"

#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the wire is little endian, and so must the machine be; Python does it elsewhere"
#endif

#define COLUMNS_TAG 0x22
#define INPUTS_TAG 0x4A
#define APPLIED_TAG 0x08
#define NEWEST_TAG 0x10
#define SEQS_TAG 0x1A
#define WAITING_TAG 0x22
#define CURRENT_TAG 0x2A
#define MOST_VARINT 10
#define NONE (-1)

typedef struct {
    Py_buffer buffer;
    size_t columns, stride; /* bytes of one column of one room; of one seat for what it holds */
} Piece;

typedef struct {
    PyObject_HEAD
    Py_ssize_t rooms, seats, runs, held;
    Piece *run, *hold;
    Py_buffer applied, newest;
    PyObject *rings;
    size_t column_bytes, held_bytes;
    Py_ssize_t *first; /* per seat, the oldest arrival that waits for it */
    Py_ssize_t *next;  /* per arrival, the next one of that seat */
    size_t linked;     /* arrivals there is room for in `next` */
    uint8_t *out, *body;
    size_t room, body_room;
} Packer;

static const InputsApi *rings_api;

static uint8_t *put_bytes(uint8_t *at, uint8_t tag, const void *data, size_t size)
{
    *at++ = tag;
    at = put_varint(at, size);
    memcpy(at, data, size);
    return at + size;
}

static int reserve(uint8_t **buffer, size_t *room, size_t wanted)
{
    if (wanted <= *room)
        return 0;
    uint8_t *larger = PyMem_Realloc(*buffer, wanted * 2);
    if (larger == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *buffer = larger;
    *room = wanted * 2;
    return 0;
}

/* Chain the arrivals of each seat, oldest first. */
static int chain(Packer *self, const InputsWaiting *waiting)
{
    Py_ssize_t count = self->rooms * self->seats;
    if (waiting->count > self->linked) {
        Py_ssize_t *next = PyMem_Realloc(self->next, waiting->count * 2 * sizeof(Py_ssize_t));
        if (next == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->next = next;
        self->linked = waiting->count * 2;
    }
    for (Py_ssize_t seat = 0; seat < count; seat++)
        self->first[seat] = NONE;
    for (Py_ssize_t at = (Py_ssize_t)waiting->count - 1; at >= 0; at--) {
        Py_ssize_t seat = waiting->arrival[at].seat;
        self->next[at] = self->first[seat];
        self->first[seat] = at;
    }
    return 0;
}

/* The seqs and inputs that wait for a seat; `scratch` has room for the seqs. */
static uint8_t *put_waiting(Packer *self, const InputsWaiting *waiting, Py_ssize_t seat,
                            uint8_t *scratch, uint8_t *at)
{
    uint8_t *end = scratch;
    for (Py_ssize_t place = self->first[seat]; place != NONE; place = self->next[place])
        end = put_varint(end, (uint64_t)waiting->arrival[place].seq);
    if (end == scratch)
        return at;
    at = put_bytes(at, SEQS_TAG, scratch, (size_t)(end - scratch));
    for (Py_ssize_t place = self->first[seat]; place != NONE; place = self->next[place])
        at = put_bytes(at, WAITING_TAG, waiting->data + (size_t)place * waiting->size,
                       waiting->size);
    return at;
}

/* The inputs of one seat; `body` has room for them twice. */
static uint8_t *put_seat(Packer *self, const InputsWaiting *waiting, Py_ssize_t seat, uint8_t *out)
{
    uint8_t *at = self->body;
    *at++ = APPLIED_TAG;
    at = put_varint(at, (uint64_t)((int64_t *)self->applied.buf)[seat]);
    *at++ = NEWEST_TAG;
    at = put_varint(at, (uint64_t)((int64_t *)self->newest.buf)[seat]);
    *at++ = CURRENT_TAG;
    at = put_varint(at, self->held_bytes);
    for (Py_ssize_t place = 0; place < self->held; place++) {
        const Piece *hold = self->hold + place;
        memcpy(at, (char *)hold->buffer.buf + (size_t)seat * hold->stride, hold->stride);
        at += hold->stride;
    }
    at = put_waiting(self, waiting, seat, self->body + self->body_room / 2, at);
    return put_bytes(out, INPUTS_TAG, self->body, (size_t)(at - self->body));
}

static uint8_t *put_columns(Packer *self, Py_ssize_t slot, uint8_t *out)
{
    *out++ = COLUMNS_TAG;
    out = put_varint(out, self->column_bytes);
    for (Py_ssize_t place = 0; place < self->runs; place++) {
        const Piece *run = self->run + place;
        const char *from = (char *)run->buffer.buf + (size_t)slot * run->stride;
        for (size_t column = 0; column < run->columns; column++) {
            memcpy(out, from, run->stride);
            out += run->stride;
            from += run->stride * (size_t)self->rooms;
        }
    }
    return out;
}

static PyObject *pack_room(Packer *self, const InputsWaiting *waiting, Py_ssize_t slot)
{
    uint8_t *out = put_columns(self, slot, self->out);
    for (Py_ssize_t seat = 0; seat < self->seats; seat++)
        out = put_seat(self, waiting, slot * self->seats + seat, out);
    return PyBytes_FromStringAndSize((char *)self->out, out - self->out);
}

static PyObject *pack(Packer *self, PyObject *argument)
{
    InputsWaiting waiting = rings_api->waiting(self->rings);
    /* Whatever waits may all wait for one seat. */
    size_t all = waiting.count * (waiting.size + 2 * MOST_VARINT + 1);
    size_t seat = self->held_bytes + 6 * MOST_VARINT;
    if (!PyList_Check(argument))
        return PyErr_Format(PyExc_TypeError, "a list of slots is needed");
    if (reserve(&self->body, &self->body_room, 2 * (seat + all)) < 0 ||
        reserve(&self->out, &self->room,
                self->column_bytes + (size_t)self->seats * seat + all + 2 * MOST_VARINT) < 0 ||
        chain(self, &waiting) < 0)
        return NULL;
    PyObject *list = PyList_New(PyList_GET_SIZE(argument));
    for (Py_ssize_t place = 0; list != NULL && place < PyList_GET_SIZE(list); place++) {
        Py_ssize_t slot = PyNumber_AsSsize_t(PyList_GET_ITEM(argument, place), NULL);
        PyObject *data = NULL;
        if (slot >= 0 && slot < self->rooms)
            data = pack_room(self, &waiting, slot);
        else if (!PyErr_Occurred())
            PyErr_Format(PyExc_IndexError, "slot %zd of %zd", slot, self->rooms);
        if (data == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, place, data);
    }
    return list;
}

/* Arrays that have `columns` columns of `units` equal parts each; the bytes of one unit in `sum`. */
static Piece *pieces(PyObject *arrays, Py_ssize_t units, Py_ssize_t *held, size_t *sum)
{
    Py_ssize_t count = PyTuple_GET_SIZE(arrays);
    Piece *made = PyMem_Calloc((size_t)count + 1, sizeof(Piece));
    if (made == NULL)
        PyErr_NoMemory();
    for (*held = 0; made != NULL && *held < count; ++*held) {
        PyObject *array;
        Py_ssize_t columns;
        Piece *piece = made + *held;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(arrays, *held), "On", &array, &columns) ||
            PyObject_GetBuffer(array, &piece->buffer, PyBUF_C_CONTIGUOUS) < 0)
            return made;
        if (columns < 1 || units < 1 || piece->buffer.len % (columns * units)) {
            PyBuffer_Release(&piece->buffer);
            PyErr_SetString(PyExc_ValueError, "an array does not have so many parts");
            return made;
        }
        piece->columns = (size_t)columns;
        piece->stride = (size_t)(piece->buffer.len / (columns * units));
        *sum += piece->columns * piece->stride;
    }
    return made;
}

static int number_per_seat(PyObject *array, Py_buffer *buffer, Py_ssize_t count)
{
    if (PyObject_GetBuffer(array, buffer, PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    if (buffer->len == count * (Py_ssize_t)sizeof(int64_t))
        return 0;
    PyErr_SetString(PyExc_ValueError, "an array has another size");
    return -1;
}

static PyObject *packer_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *runs, *held, *rings, *applied, *newest;
    Py_ssize_t rooms, seats;
    if (!PyArg_ParseTuple(args, "nnO!OOOO!", &rooms, &seats, &PyTuple_Type, &runs, &rings,
                          &applied, &newest, &PyTuple_Type, &held))
        return NULL;
    if (rooms < 1 || seats < 1 || !rings_api->is_rings(rings) ||
        !rings_api->has_seat(rings, rooms * seats - 1))
        return PyErr_Format(PyExc_ValueError, "the rings do not fit the rooms");
    Packer *self = (Packer *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->rooms = rooms;
    self->seats = seats;
    self->rings = Py_NewRef(rings);
    self->first = PyMem_Malloc((size_t)(rooms * seats) * sizeof(Py_ssize_t));
    if (self->first == NULL)
        PyErr_NoMemory();
    else if (number_per_seat(applied, &self->applied, rooms * seats) == 0 &&
             number_per_seat(newest, &self->newest, rooms * seats) == 0) {
        self->run = pieces(runs, rooms, &self->runs, &self->column_bytes);
        if (!PyErr_Occurred())
            self->hold = pieces(held, rooms * seats, &self->held, &self->held_bytes);
    }
    if (PyErr_Occurred()) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void packer_dealloc(Packer *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (Py_ssize_t place = 0; place < self->runs; place++)
        PyBuffer_Release(&self->run[place].buffer);
    for (Py_ssize_t place = 0; place < self->held; place++)
        PyBuffer_Release(&self->hold[place].buffer);
    PyBuffer_Release(&self->applied);
    PyBuffer_Release(&self->newest);
    Py_XDECREF(self->rings);
    PyMem_Free(self->run);
    PyMem_Free(self->hold);
    PyMem_Free(self->first);
    PyMem_Free(self->next);
    PyMem_Free(self->out);
    PyMem_Free(self->body);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef packer_methods[] = {
    {"pack", (PyCFunction)pack, METH_O, "Columns and inputs of rooms, each as encoded fields."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot packer_slots[] = {
    {Py_tp_new, packer_new},
    {Py_tp_dealloc, packer_dealloc},
    {Py_tp_methods, packer_methods},
    {Py_tp_doc, "Packer(rooms, seats, runs, rings, applied, newest, held)"},
    {0, NULL},
};

static PyType_Spec packer_spec = {
    .name = "rallypoint.room_state._packing.Packer",
    .basicsize = sizeof(Packer),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = packer_slots,
};

static int module_exec(PyObject *module)
{
    PyObject *inputs = PyImport_ImportModule("rallypoint.games._inputs"); /* makes the capsule */
    if (inputs == NULL)
        return -1;
    PyObject *capsule = PyObject_GetAttrString(inputs, "_capi");
    Py_DECREF(inputs);
    rings_api = capsule == NULL ? NULL : PyCapsule_GetPointer(capsule, INPUTS_CAPSULE);
    Py_XDECREF(capsule);
    if (rings_api == NULL)
        return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &packer_spec, NULL);
    int failed = type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "rallypoint.room_state._packing",
    .m_doc = "Packs rooms for snapshots.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__packing(void) { return PyModuleDef_Init(&module_def); }
