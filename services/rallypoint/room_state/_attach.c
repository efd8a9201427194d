/* What an Attach carries most, in C: inputs out of requests, frames into responses (wire.md §7).
 *
 * `take_inputs` reads the `inputs` of an encoded AttachRequest and hands them to the rings of their
 * seats; it returns the other fields as they were, so that what is rare is parsed by protobuf. A
 * `Door` is a room's way in: which generation may send inputs for which seat.
 */
#include "../games/_inputs.h"

#include <string.h>

#define INPUTS_FIELD 4
#define FRAMES_TAG 0x12
#define PART_TAG 0x22

enum { ACK_TICK, VIEW_MS, MARGIN_MS, CALLS, HEARD }; /* what is heard of a seat */

static const InputsApi *rings_api;
static PyTypeObject *door_type;
static PyObject *room_name, *door_name;

/* --- doors --- */

typedef struct {
    PyObject_HEAD
    PyObject *rings;
    Py_ssize_t first;
    uint32_t seats;
    uint32_t *generations; /* of the stream in each seat; 0 for none */
    Py_buffer heard;       /* games/heard.py: HEARD numbers for each seat of the rings, or none */
} Door;

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

/* --- protobuf --- */

typedef struct {
    const uint8_t *at, *end;
} Reader;

typedef struct {
    uint64_t field, number; /* `number` is the value of a varint field */
    unsigned type;
    Reader bytes; /* of a length-delimited one */
} Field;

static int read_varint(Reader *from, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 70 && from->at < from->end; shift += 7) {
        uint8_t octet = *from->at++;
        if (shift < 64)
            *value |= (uint64_t)(octet & 0x7F) << shift;
        if (octet < 0x80)
            return 0;
    }
    return -1;
}

static int read_field(Reader *from, Field *field)
{
    uint64_t tag, size;
    if (read_varint(from, &tag) < 0)
        return -1;
    field->field = tag >> 3;
    field->type = tag & 7;
    switch (field->type) {
    case 0:
        return read_varint(from, &field->number);
    case 1:
        size = 8;
        break;
    case 2:
        if (read_varint(from, &size) < 0)
            return -1;
        break;
    case 5:
        size = 4;
        break;
    default:
        return -1;
    }
    if (size > (uint64_t)(from->end - from->at))
        return -1;
    field->bytes = (Reader){from->at, from->at + size};
    from->at += size;
    return 0;
}

typedef struct {
    Reader room;
    uint32_t slot, generation, ack_tick, first_seq, view_ms, margin_ms;
    size_t count;
    InputBytes inputs[MOST_INPUTS];
} Sent;

static int read_seat(Reader from, Sent *sent)
{
    Field field;
    while (from.at < from.end) {
        if (read_field(&from, &field) < 0)
            return -1;
        if (field.field == 1 && field.type == 2)
            sent->room = field.bytes;
        else if (field.field == 2 && field.type == 0)
            sent->slot = (uint32_t)field.number;
        else if (field.field == 3 && field.type == 0)
            sent->generation = (uint32_t)field.number;
    }
    return 0;
}

static void note_number(Sent *sent, uint64_t field, uint32_t number)
{
    switch (field) {
    case 2:
        sent->ack_tick = number;
        break;
    case 3:
        sent->first_seq = number;
        break;
    case 5:
        sent->view_ms = number;
        break;
    case 6:
        sent->margin_ms = number;
        break;
    }
}

/* One ClientInput; more inputs than there is room for are counted all the same. */
static int read_sent(Reader from, Sent *sent)
{
    Field field;
    sent->room = (Reader){from.at, from.at};
    sent->slot = sent->generation = sent->first_seq = 0;
    sent->ack_tick = sent->view_ms = sent->margin_ms = 0;
    sent->count = 0;
    while (from.at < from.end) {
        if (read_field(&from, &field) < 0)
            return -1;
        if (field.field == 1 && field.type == 2) {
            if (read_seat(field.bytes, sent) < 0)
                return -1;
        } else if (field.type == 0) {
            note_number(sent, field.field, (uint32_t)field.number);
        } else if (field.field == 4 && field.type == 2) {
            if (sent->count < MOST_INPUTS)
                sent->inputs[sent->count] =
                    (InputBytes){field.bytes.at, (size_t)(field.bytes.end - field.bytes.at)};
            sent->count++;
        }
    }
    return 0;
}

/* --- requests --- */

#define REMEMBERED 256 /* a power of two; two inputs of each room in a request are usual */

typedef struct {
    Reader room;
    PyObject *door; /* of the room, or None; NULL when there is no such room */
} Known;

typedef struct {
    PyObject *rooms; /* room id: an object whose `room.door` is a Door, or None */
    PyObject *door;  /* what `find_door` found, borrowed */
    Known known[REMEMBERED];
} Doors;

/* Where a room is remembered: ids are random, so some of their last bytes will do. */
static Known *place_of(Doors *doors, Reader room)
{
    uint64_t tail = 0;
    size_t size = (size_t)(room.end - room.at), some = size < sizeof tail ? size : sizeof tail;
    memcpy(&tail, room.end - some, some);
    tail *= UINT64_C(0x9E3779B97F4A7C15);
    return &doors->known[tail >> 56 & (REMEMBERED - 1)];
}

/* A new reference to the door of a room; NULL when there is no such room, or with an exception. */
static PyObject *ask_door(PyObject *rooms, Reader room)
{
    PyObject *name = PyUnicode_DecodeUTF8((const char *)room.at, room.end - room.at, NULL);
    if (name == NULL)
        return NULL;
    PyObject *placed = PyDict_GetItemWithError(rooms, name);
    Py_DECREF(name);
    if (placed == NULL)
        return NULL;
    PyObject *hosted = PyObject_GetAttr(placed, room_name);
    if (hosted == NULL)
        return NULL;
    PyObject *door = PyObject_GetAttr(hosted, door_name);
    Py_DECREF(hosted);
    return door;
}

/* The door of a room into `doors->door`; -1 with an exception set. Nothing else runs while one
 * request is read, so what was found for it stays true. */
static int find_door(Doors *doors, Reader room)
{
    size_t size = (size_t)(room.end - room.at);
    Known *known = place_of(doors, room);
    if (known->room.at == NULL || size != (size_t)(known->room.end - known->room.at) ||
        memcmp(room.at, known->room.at, size) != 0) {
        PyObject *door = ask_door(doors->rooms, room);
        if (door == NULL && PyErr_Occurred())
            return -1;
        known->room = room;
        Py_XSETREF(known->door, door);
    }
    doors->door = known->door;
    return 0;
}

static void forget_doors(Doors *doors)
{
    for (size_t at = 0; at < REMEMBERED; at++)
        Py_XDECREF(doors->known[at].door);
}

/* Heard.hear. */
static void hear(const Door *door, Py_ssize_t seat, const Sent *sent)
{
    if (door->heard.obj == NULL)
        return;
    int64_t *said = (int64_t *)door->heard.buf + seat * HEARD;
    said[CALLS]++;
    if ((int64_t)sent->ack_tick >= said[ACK_TICK]) {
        said[ACK_TICK] = sent->ack_tick;
        said[VIEW_MS] = sent->view_ms;
        said[MARGIN_MS] = sent->margin_ms;
    }
}

/* 1 when the inputs were taken or are no stream's, 0 when they must go the other way, -1 on errors. */
static int pass_on(Doors *doors, const Sent *sent)
{
    if (find_door(doors, sent->room) < 0)
        return -1;
    if (doors->door == NULL)
        return 0; /* it may have moved, and the gateway not know */
    if (Py_TYPE(doors->door) != door_type || sent->count > MOST_INPUTS)
        return 0;
    Door *door = (Door *)doors->door;
    if (sent->slot >= door->seats || !sent->generation ||
        door->generations[sent->slot] != sent->generation)
        return 1;
    Py_ssize_t seat = door->first + (Py_ssize_t)sent->slot;
    hear(door, seat, sent);
    int failed = rings_api->offer(door->rings, seat, sent->first_seq, sent->inputs, sent->count);
    return failed < 0 ? -1 : 1;
}

static int take_all(Doors *doors, Reader from, uint8_t *rest, size_t *left)
{
    Field field;
    Sent sent;
    while (from.at < from.end) {
        const uint8_t *begin = from.at;
        int taken = 0;
        if (read_field(&from, &field) < 0)
            goto malformed;
        if (field.field == INPUTS_FIELD && field.type == 2) {
            if (read_sent(field.bytes, &sent) < 0)
                goto malformed;
            taken = pass_on(doors, &sent);
        }
        if (taken < 0)
            return -1;
        if (!taken) {
            memcpy(rest + *left, begin, (size_t)(from.at - begin));
            *left += (size_t)(from.at - begin);
        }
    }
    return 0;
malformed:
    PyErr_SetString(PyExc_ValueError, "this is no AttachRequest");
    return -1;
}

static PyObject *take_inputs(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *data;
    Doors doors = {0};
    size_t left = 0;
    if (!PyArg_ParseTuple(args, "SO!", &data, &PyDict_Type, &doors.rooms))
        return NULL;
    const uint8_t *at = (const uint8_t *)PyBytes_AS_STRING(data);
    Py_ssize_t size = PyBytes_GET_SIZE(data);
    PyObject *rest = PyBytes_FromStringAndSize(NULL, size);
    if (rest == NULL)
        return NULL;
    int failed = take_all(&doors, (Reader){at, at + size}, (uint8_t *)PyBytes_AS_STRING(rest), &left);
    forget_doors(&doors);
    if (failed < 0)
        Py_CLEAR(rest);
    else if (_PyBytes_Resize(&rest, (Py_ssize_t)left) < 0)
        return NULL;
    return rest;
}

/* --- responses --- */

static size_t varint_size(size_t value)
{
    size_t size = 1;
    while (value >>= 7)
        size++;
    return size;
}

static char *put_varint(char *at, size_t value)
{
    while (value > 0x7F) {
        *at++ = (char)(value | 0x80);
        value >>= 7;
    }
    *at++ = (char)value;
    return at;
}

static char *put(char *at, PyObject *bytes)
{
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);
    memcpy(at, PyBytes_AS_STRING(bytes), size);
    return at + size;
}

/* A room's frame in step: head, tick, its only part (not encoded yet) and route. */
typedef struct {
    PyObject *fields[4];
} InStep;

/* The size of a frame without its own tag and length. */
static size_t frame_size(const InStep *frame)
{
    size_t size = 1 + varint_size((size_t)PyBytes_GET_SIZE(frame->fields[2]));
    for (int place = 0; place < 4; place++)
        size += (size_t)PyBytes_GET_SIZE(frame->fields[place]);
    return size;
}

static size_t whole_size(const InStep *frame)
{
    size_t size = frame_size(frame);
    return 1 + varint_size(size) + size;
}

static char *put_frame(char *at, const InStep *frame)
{
    *at++ = FRAMES_TAG;
    at = put_varint(at, frame_size(frame));
    at = put(put(at, frame->fields[0]), frame->fields[1]);
    *at++ = PART_TAG;
    at = put_varint(at, (size_t)PyBytes_GET_SIZE(frame->fields[2]));
    return put(put(at, frame->fields[2]), frame->fields[3]);
}

static int all_bytes(const InStep *frame)
{
    for (int place = 0; place < 4; place++)
        if (frame->fields[place] == NULL || !PyBytes_Check(frame->fields[place]))
            return 0;
    return 1;
}

/* A tuple of its four fields. */
static int read_frame(PyObject *item, InStep *frame)
{
    if (!PyTuple_CheckExact(item) || PyTuple_GET_SIZE(item) != 4)
        return 0;
    for (int place = 0; place < 4; place++)
        frame->fields[place] = PyTuple_GET_ITEM(item, place);
    return all_bytes(frame);
}

static PyObject *join_frames(PyObject *Py_UNUSED(module), PyObject *frames)
{
    InStep frame;
    size_t whole = 0;
    if (!PyList_CheckExact(frames))
        return PyErr_Format(PyExc_TypeError, "frames are a list");
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(frames); place++) {
        PyObject *item = PyList_GET_ITEM(frames, place);
        if (PyBytes_Check(item))
            whole += (size_t)PyBytes_GET_SIZE(item);
        else if (read_frame(item, &frame))
            whole += whole_size(&frame);
        else
            return PyErr_Format(PyExc_TypeError, "a frame is bytes, or head, tick, part, route");
    }
    PyObject *joined = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)whole);
    if (joined == NULL)
        return NULL;
    char *at = PyBytes_AS_STRING(joined);
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(frames); place++) {
        PyObject *item = PyList_GET_ITEM(frames, place);
        at = read_frame(item, &frame) ? put_frame(at, &frame) : put(at, item);
    }
    return joined;
}

static PyObject *item_of(PyObject *list, PyObject *number)
{
    Py_ssize_t at = PyLong_Check(number) ? PyLong_AsSsize_t(number) : -1;
    return at >= 0 && at < PyList_GET_SIZE(list) ? PyList_GET_ITEM(list, at) : NULL;
}

/* A tuple (head, number of the tick, slot of the delta, route). */
static int read_row(PyObject *row, PyObject *ticks, PyObject *deltas, InStep *frame)
{
    if (!PyTuple_CheckExact(row) || PyTuple_GET_SIZE(row) != 4)
        return 0;
    frame->fields[0] = PyTuple_GET_ITEM(row, 0);
    frame->fields[1] = item_of(ticks, PyTuple_GET_ITEM(row, 1));
    frame->fields[2] = item_of(deltas, PyTuple_GET_ITEM(row, 2));
    frame->fields[3] = PyTuple_GET_ITEM(row, 3);
    return all_bytes(frame);
}

static PyObject *join_rows(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *rows, *ticks, *deltas;
    InStep frame;
    size_t whole = 0;
    if (!PyArg_ParseTuple(args, "O!O!O!", &PyList_Type, &rows, &PyList_Type, &ticks, &PyList_Type,
                          &deltas))
        return NULL;
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(rows); place++) {
        if (!read_row(PyList_GET_ITEM(rows, place), ticks, deltas, &frame)) {
            PyErr_Clear();
            return PyErr_Format(PyExc_TypeError, "a row is head, tick, slot, route");
        }
        whole += whole_size(&frame);
    }
    PyObject *joined = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)whole);
    if (joined == NULL)
        return NULL;
    char *at = PyBytes_AS_STRING(joined);
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(rows); place++) {
        read_row(PyList_GET_ITEM(rows, place), ticks, deltas, &frame);
        at = put_frame(at, &frame);
    }
    return joined;
}

/* --- module --- */

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

static PyType_Spec door_spec = {
    .name = "rallypoint.room_state._attach.Door",
    .basicsize = sizeof(Door),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = door_slots,
};

static PyMethodDef functions[] = {
    {"take_inputs", take_inputs, METH_VARARGS, "Take a request's inputs; its other fields."},
    {"join_frames", join_frames, METH_O, "The frames of an AttachResponse."},
    {"join_rows", join_rows, METH_VARARGS, "The same for rooms in step: rows, ticks, deltas."},
    {NULL, NULL, 0, NULL},
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
    room_name = PyUnicode_InternFromString("room");
    door_name = PyUnicode_InternFromString("door");
    door_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &door_spec, NULL);
    if (rings_api == NULL || room_name == NULL || door_name == NULL || door_type == NULL)
        return -1;
    return PyModule_AddType(module, door_type);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "rallypoint.room_state._attach",
    .m_doc = "Reads inputs from requests, writes frames into responses.",
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__attach(void) { return PyModuleDef_Init(&module_def); }
