/* One encoded AttachResponse, walked frame by frame, route by route, without objects per client. */

#include "_edge_names.h"
#include "_edge_routes.h"

#include <stdlib.h>
#include <string.h>

/* Field keys of rallypoint.internal.v1: AttachResponse, RoomFrame, Route. */
enum { KEY_FRAMES = 2 << 3 | 2 };
enum { KEY_ROOM_ID = 1 << 3 | 2, KEY_EPOCH = 2 << 3, KEY_PARTS = 4 << 3 | 2, KEY_ROUTES = 5 << 3 | 2 };
enum { KEY_CLIENTS = 1 << 3, KEY_INDICES = 2 << 3, PACKED = 2 };
enum { KEY_FRAME_OF_JOIN_RESPONSE = 2 << 3 | 2, RUN = 256 };

typedef struct {
    PyObject_HEAD
    Routes *routes;
    PyObject *data;
    PyObject *rest;
    Reader responses; /* what is left of the AttachResponse */
    Reader routed;    /* what is left of this RoomFrame, for its routes */
    Buffer parts;     /* its parts: an array of Reader */
    Reader clients;   /* what is left of the route under way */
    bool under_way;
    Framed framed;
} Flush;

static PyObject *malformed(void)
{
    PyErr_SetString(PyExc_ValueError, "no AttachResponse");
    return NULL;
}

/* The fields that are no frames, one after the other: an AttachResponse of its own. */
static PyObject *rest_of(Reader from)
{
    Buffer rest = {0};
    PyObject *bytes = NULL;
    while (from.at < from.end) {
        const uint8_t *start = from.at;
        uint64_t key;
        if (!read_varint(&from, &key) || !skip_field(&from, key)) {
            malformed();
            goto done;
        }
        if (key == KEY_FRAMES)
            continue;
        size_t size = (size_t)(from.at - start);
        uint8_t *to = buffer_room(&rest, size);
        if (to == NULL) {
            PyErr_NoMemory();
            goto done;
        }
        memcpy(to, start, size);
        rest.size += size;
    }
    bytes = PyBytes_FromStringAndSize((const char *)rest.data, (Py_ssize_t)rest.size);
done:
    free(rest.data);
    return bytes;
}

PyObject *flush_open(Routes *routes, PyObject *data)
{
    char *start;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data, &start, &size) < 0)
        return NULL;
    Reader all = {(const uint8_t *)start, (const uint8_t *)start + size};
    PyObject *rest = rest_of(all);
    if (rest == NULL)
        return NULL;
    Flush *self = (Flush *)FlushType.tp_alloc(&FlushType, 0);
    if (self == NULL) {
        Py_DECREF(rest);
        return NULL;
    }
    self->routes = (Routes *)Py_NewRef((PyObject *)routes);
    self->data = Py_NewRef(data);
    self->rest = rest;
    self->responses = all;
    return (PyObject *)self;
}

static void flush_dealloc(Flush *self)
{
    Py_XDECREF(self->routes);
    Py_XDECREF(self->data);
    Py_XDECREF(self->rest);
    free(self->parts.data);
    framed_free(&self->framed);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* --- one room --- */

/* Note the room, the epoch and the parts of a RoomFrame; its routes are read when sent. */
static int open_frame(Flush *self, Reader frame, Reader *room_id, uint64_t *epoch)
{
    self->routed = frame;
    self->parts.size = 0;
    self->under_way = false;
    *room_id = (Reader){frame.end, frame.end};
    *epoch = 0;
    while (frame.at < frame.end) {
        uint64_t key;
        bool read = read_varint(&frame, &key);
        if (read && key == KEY_ROOM_ID) {
            read = read_bytes(&frame, room_id);
        } else if (read && key == KEY_EPOCH) {
            read = read_varint(&frame, epoch);
        } else if (read && key == KEY_PARTS) {
            Reader *part = (Reader *)buffer_room(&self->parts, sizeof *part);
            if (part == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            self->parts.size += sizeof *part;
            read = read_bytes(&frame, part);
        } else {
            read = read && skip_field(&frame, key);
        }
        if (!read) {
            malformed();
            return -1;
        }
    }
    return 0;
}

/* Go to the next room's frame: 1, 0 when there is none, -1 with an exception. */
static int open_room(Flush *self, Reader *room_id, uint64_t *epoch)
{
    Reader *from = &self->responses;
    while (from->at < from->end) {
        uint64_t key;
        Reader frame;
        if (!read_varint(from, &key))
            return malformed(), -1;
        if (key != KEY_FRAMES) {
            if (!skip_field(from, key))
                return malformed(), -1;
            continue;
        }
        if (!read_bytes(from, &frame))
            return malformed(), -1;
        return open_frame(self, frame, room_id, epoch) < 0 ? -1 : 1;
    }
    return 0;
}

/* --- one route --- */

static size_t parts_size(const Reader *parts, size_t count, Reader indices)
{
    size_t size = 0;
    uint64_t index;
    while (indices.at < indices.end) {
        if (!read_varint(&indices, &index) || index >= count)
            return SIZE_MAX;
        size += (size_t)(parts[index].end - parts[index].at);
    }
    return size;
}

/* Frame a JoinResponse whose frame is the parts named by `indices`. */
static int frame_parts(Flush *self, Reader indices)
{
    const Reader *parts = (const Reader *)self->parts.data;
    size_t size = parts_size(parts, self->parts.size / sizeof *parts, indices);
    if (size == SIZE_MAX) {
        malformed();
        return -1;
    }
    uint8_t head[1 + VARINT_MOST] = {KEY_FRAME_OF_JOIN_RESPONSE};
    size_t head_size = (size_t)(put_varint(head + 1, size) - head);
    uint8_t *to = frame_web(&self->framed, head_size + size);
    if (to == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(to, head, head_size);
    to += head_size;
    while (indices.at < indices.end) {
        uint64_t index = 0;
        read_varint(&indices, &index);
        size_t part = (size_t)(parts[index].end - parts[index].at);
        memcpy(to, parts[index].at, part);
        to += part;
    }
    return 0;
}

/* Read the next route of a room: 1, 0 when there is none, -1 with an exception. */
static int read_route(Reader *from, Reader *clients, Reader *indices)
{
    uint64_t key;
    Reader route;
    do {
        if (from->at >= from->end)
            return 0;
        if (!read_varint(from, &key) || (key != KEY_ROUTES && !skip_field(from, key)))
            return malformed(), -1;
    } while (key != KEY_ROUTES);
    if (!read_bytes(from, &route))
        return malformed(), -1;
    *clients = *indices = (Reader){route.end, route.end};
    while (route.at < route.end) {
        bool read = read_varint(&route, &key);
        if (read && key == (KEY_CLIENTS | PACKED))
            read = read_bytes(&route, clients);
        else if (read && key == (KEY_INDICES | PACKED))
            read = read_bytes(&route, indices);
        else
            /* Numbers one by one are legal, but nobody writes them: proto3 packs. */
            read = read && (key & ~(uint64_t)7) != KEY_CLIENTS && key != KEY_INDICES
                   && skip_field(&route, key);
        if (!read)
            return malformed(), -1;
    }
    return 1;
}

/* Go to the next route of the room: 1, 0 when there is none, -1 with an exception. */
static int open_route(Flush *self)
{
    Reader indices;
    int found = read_route(&self->routed, &self->clients, &indices);
    if (found <= 0)
        return found;
    self->under_way = true;
    return frame_parts(self, indices) < 0 ? -1 : 1;
}

static int add_stranger(Flush *self, uint32_t client, PyObject **strangers, PyObject **message)
{
    if (*strangers == NULL && (*strangers = PyList_New(0)) == NULL)
        return -1;
    if (*message == NULL) {
        const char *start = (const char *)self->framed.bytes.data + self->framed.message_at;
        *message = PyBytes_FromStringAndSize(start, (Py_ssize_t)self->framed.message_size);
        if (*message == NULL)
            return -1;
    }
    PyObject *stranger = Py_BuildValue("(IO)", client, *message);
    int failed = stranger == NULL ? -1 : PyList_Append(*strangers, stranger);
    Py_XDECREF(stranger);
    return failed;
}

/* Send the route under way to up to `most` clients in step; the count, or -1. */
static Py_ssize_t send_route(Flush *self, size_t most, PyObject **strangers, PyObject **events)
{
    uint32_t slots[RUN];
    size_t count = 0;
    int failed = 0;
    PyObject *message = NULL;
    Reader *clients = &self->clients;
    while (clients->at < clients->end && count < most && count < RUN && failed == 0) {
        uint64_t client;
        if (!read_varint(clients, &client)) {
            malformed();
            failed = -1;
            break;
        }
        uint32_t slot = slot_of(self->routes, (uint32_t)client);
        if (slot != NO_SLOT)
            slots[count++] = slot;
        else
            failed = add_stranger(self, (uint32_t)client, strangers, &message);
    }
    self->under_way = clients->at < clients->end;
    Py_XDECREF(message);
    if (failed == 0 && count > 0)
        failed = send_run(self->routes->sender, slots, count, &self->framed, events);
    return failed < 0 ? -1 : (Py_ssize_t)count;
}

static PyObject *owned_or_none(PyObject *object)
{
    return object != NULL ? object : Py_NewRef(Py_None);
}

/* send(most) -> (found, done, strangers, events) */
static PyObject *flush_send(Flush *self, PyObject *arg)
{
    Py_ssize_t most = PyLong_AsSsize_t(arg);
    if (most < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "send some");
        return NULL;
    }
    PyObject *strangers = NULL, *events = NULL;
    Py_ssize_t found = 0, sent = 0;
    int more = 1;
    while (found < most) {
        if (!self->under_way && (more = open_route(self)) <= 0)
            break;
        if ((sent = send_route(self, (size_t)(most - found), &strangers, &events)) < 0)
            break;
        found += sent;
    }
    if (more < 0 || sent < 0) {
        Py_XDECREF(strangers);
        drop_events(self->routes->sender, events);
        return NULL;
    }
    return Py_BuildValue("(nONN)", found, more == 0 ? Py_True : Py_False,
                         owned_or_none(strangers), owned_or_none(events));
}

/* --- rooms where all is as always --- */

/* Whether all clients of the room under way are in step, and how many: 1, 0, -1 (exception). */
static int all_in_step(const Flush *self, size_t *count)
{
    Reader from = self->routed, clients, indices;
    int found;
    *count = 0;
    while ((found = read_route(&from, &clients, &indices)) > 0)
        for (; clients.at < clients.end; ++*count) {
            uint64_t client;
            if (!read_varint(&clients, &client))
                return malformed(), -1;
            if (slot_of(self->routes, (uint32_t)client) == NO_SLOT)
                return 0;
        }
    return found < 0 ? -1 : 1;
}

static int has_epoch(PyObject *room, uint64_t epoch)
{
    PyObject *held = NULL, *number = attribute(room, EPOCH, &held);
    if (number == NULL)
        return -1;
    unsigned long long known = PyLong_AsUnsignedLongLong(number);
    Py_XDECREF(held);
    return known == (unsigned long long)-1 && PyErr_Occurred() ? -1 : known == epoch;
}

static Py_ssize_t size_of(PyObject *room, enum Name name)
{
    PyObject *held = NULL, *found = attribute(room, name, &held);
    Py_ssize_t size = found == NULL ? -1 : PyObject_Size(found);
    Py_XDECREF(held);
    return size;
}

/* Note when a frame of the room came, and whether all of its streams in step got it. */
static int note_frame(PyObject *room, PyObject *now, Py_ssize_t sent)
{
    PyObject *held = NULL, *rhythm = attribute(room, RHYTHM, &held);
    int failed = rhythm == NULL ? -1 : set_attribute(rhythm, SEEN_AT, now);
    Py_XDECREF(held);
    Py_ssize_t streams = failed < 0 ? -1 : size_of(room, STREAMS);
    Py_ssize_t unsettled = streams < 0 ? -1 : size_of(room, UNSETTLED);
    if (unsettled < 0)
        return -1;
    return sent >= streams - unsettled ? set_attribute(room, ROOM_FULL_AT, now) : 0;
}

static Py_ssize_t send_routes(Flush *self, PyObject **events)
{
    PyObject *strangers = NULL;
    Py_ssize_t sent = 0;
    int more;
    while ((more = open_route(self)) > 0)
        while (self->under_way) {
            Py_ssize_t some = send_route(self, SIZE_MAX, &strangers, events);
            if (some < 0)
                return -1;
            sent += some;
        }
    return more < 0 ? -1 : sent;
}

/* Send the frame of the room under way, if all is as always, to at most `most`: the number, -1
   with an exception, AS_USUAL_NOT when Python has to look. */
enum { AS_USUAL_NOT = -2 };

static Py_ssize_t send_room(Flush *self, PyObject *room, uint64_t epoch, Py_ssize_t most,
                            PyObject *now, PyObject **events)
{
    size_t count = 0;
    int usual = has_epoch(room, epoch);
    if (usual > 0)
        usual = all_in_step(self, &count);
    if (usual <= 0 || (Py_ssize_t)count > most)
        return usual < 0 ? -1 : AS_USUAL_NOT;
    Py_ssize_t sent = send_routes(self, events);
    return sent < 0 || note_frame(room, now, sent) < 0 ? -1 : sent;
}

/* next_room(rooms, now, most) -> None at the end, or (sent, (room, epoch) or None, events) */
static PyObject *flush_next_room(Flush *self, PyObject *args)
{
    PyObject *rooms, *now, *events = NULL, *name = NULL;
    Py_ssize_t most, all = 0;
    Reader room_id;
    uint64_t epoch = 0;
    int more = 1;
    if (!PyArg_ParseTuple(args, "O!O!n:next_room", &PyDict_Type, &rooms, &PyFloat_Type, &now,
                          &most))
        return NULL;
    while (all < most && events == NULL && (more = open_room(self, &room_id, &epoch)) > 0) {
        name = PyUnicode_FromStringAndSize((const char *)room_id.at, room_id.end - room_id.at);
        PyObject *room = name == NULL ? NULL : PyDict_GetItemWithError(rooms, name);
        Py_ssize_t sent = PyErr_Occurred() ? -1 : AS_USUAL_NOT;
        if (room != NULL)
            sent = send_room(self, room, epoch, most - all, now, &events);
        if (sent == AS_USUAL_NOT)
            return Py_BuildValue("(n(NK)O)", all, name, (unsigned long long)epoch, Py_None);
        Py_XDECREF(name);
        if (sent < 0) {
            more = -1;
            break;
        }
        all += sent;
    }
    if (more < 0) {
        drop_events(self->routes->sender, events);
        return NULL;
    }
    if (more == 0 && events == NULL && all == 0)
        Py_RETURN_NONE;
    return Py_BuildValue("(nON)", all, Py_None, owned_or_none(events));
}

static PyObject *flush_rest(Flush *self, void *unused)
{
    (void)unused;
    return Py_NewRef(self->rest);
}

static PyMethodDef flush_methods[] = {
    {"next_room", (PyCFunction)flush_next_room, METH_VARARGS, NULL},
    {"send", (PyCFunction)flush_send, METH_O, NULL},
    {0},
};

static PyGetSetDef flush_properties[] = {
    {"rest", (getter)flush_rest, NULL, NULL, NULL},
    {0},
};

PyTypeObject FlushType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "rallypoint.gateway._edge.Flush",
    .tp_basicsize = sizeof(Flush),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = (destructor)flush_dealloc,
    .tp_methods = flush_methods,
    .tp_getset = flush_properties,
};
