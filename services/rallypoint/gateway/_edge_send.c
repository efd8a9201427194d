/* The send loop: one framed message to many sockets, past their transports. */

#include "_edge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX_BYTES 5
#define FRAMING_BYTES_MAX (16 + 2 + PREFIX_BYTES + 2)
#define SOCKET_HEAD_MAX 10
/* From so many sends on, other threads may run meanwhile. */
#define RELEASE_FROM 24

uint8_t *buffer_room(Buffer *buffer, size_t more)
{
    if (buffer->size + more > buffer->capacity) {
        size_t capacity = (buffer->size + more) * 2;
        uint8_t *data = realloc(buffer->data, capacity);
        if (data == NULL)
            return NULL;
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

bool skip_field(Reader *from, uint64_t key)
{
    uint64_t number;
    Reader bytes;
    size_t width = (key & 7) == 5 ? 4 : 8;
    switch (key & 7) {
    case 0:
        return read_varint(from, &number);
    case 2:
        return read_bytes(from, &bytes);
    case 1:
    case 5:
        if ((size_t)(from->end - from->at) < width)
            return false;
        from->at += width;
        return true;
    default:
        return false;
    }
}

uint8_t *frame_web(Framed *framed, size_t size)
{
    Buffer *bytes = &framed->bytes;
    bytes->size = 0;
    uint8_t *to = buffer_room(bytes, size + FRAMING_BYTES_MAX);
    if (to == NULL)
        return NULL;
    size_t head = (size_t)sprintf((char *)to, "%zx\r\n", size + PREFIX_BYTES);
    to[head] = 0;
    for (int byte = 0; byte < 4; byte++)
        to[head + 1 + byte] = (uint8_t)(size >> (24 - 8 * byte));
    framed->message_at = head + PREFIX_BYTES;
    framed->message_size = size;
    uint8_t *message = to + framed->message_at;
    memcpy(message + size, "\r\n", 2);
    bytes->size = framed->message_at + size + 2;
    framed->in_socket.size = 0;
    return message;
}

/* The same message as one of a WebSocket (docs/wire.md §8): what differs is before its prefix. */
static const Buffer *frame_socket(Framed *framed, uint8_t call)
{
    Buffer *bytes = &framed->in_socket;
    if (bytes->size == 0) {
        size_t size = framed->message_size + PREFIX_BYTES, payload = 1 + size;
        uint8_t *to = buffer_room(bytes, payload + SOCKET_HEAD_MAX);
        if (to == NULL)
            return NULL;
        size_t lengths = payload < 126 ? 0 : payload <= 0xFFFF ? 2 : 8;
        to[0] = 0x82;
        to[1] = lengths == 0 ? (uint8_t)payload : lengths == 2 ? 126 : 127;
        for (size_t byte = 0; byte < lengths; byte++)
            to[2 + byte] = (uint8_t)((uint64_t)payload >> 8 * (lengths - 1 - byte));
        framed->call_at = 2 + lengths;
        memcpy(to + framed->call_at + 1, framed->bytes.data + framed->message_at - PREFIX_BYTES,
               size);
        bytes->size = framed->call_at + payload;
    }
    bytes->data[framed->call_at] = call;
    return bytes;
}

static const Buffer *framed_for(Framed *framed, uint8_t call)
{
    return call == 0 ? &framed->bytes : frame_socket(framed, call);
}

void framed_free(Framed *framed)
{
    free(framed->bytes.data);
    free(framed->in_socket.data);
}

/* --- what happened --- */

typedef struct {
    uint32_t slot;
    uint8_t kind;
    uint8_t call;
    size_t written;
} Happened;

/* Write to one slot; false when Python has to hear of it. Needs no GIL. */
static bool send_one(Sender *sender, uint32_t number, Framed *framed, Happened *happened)
{
    Slot *slot = number < (size_t)sender->size ? &sender->slots[number] : NULL;
    const Buffer *bytes = slot != NULL ? framed_for(framed, slot->call) : NULL;
    happened->slot = number;
    if (bytes == NULL || slot->fd < 0 || slot->touched) {
        happened->kind = EVENT_PYTHON;
        return false;
    }
    ssize_t sent;
    do {
        sent = send_some(slot->fd, bytes->data, bytes->size);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        bool full = errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS;
        happened->kind = full ? EVENT_FULL : EVENT_BROKEN;
        slot->touched = slot->behind = true; /* Python hands the message to the transport */
        return false;
    }
    sender->messages++;
    sender->bytes += bytes->size;
    if ((size_t)sent < bytes->size) {
        slot->touched = true;
        happened->written = (size_t)sent;
        happened->call = slot->call;
        happened->kind = EVENT_SHORT;
        return false;
    }
    happened->kind = EVENT_AGAIN;
    bool again = slot->behind;
    slot->behind = false;
    return !again;
}

/* What Python needs of the message; one object for all who need the same. */
static PyObject *event_bytes(const Happened *happened, Framed *framed, PyObject **message)
{
    const char *data = (const char *)framed->bytes.data;
    if (happened->kind == EVENT_SHORT) {
        const Buffer *sent = framed_for(framed, happened->call);
        return PyBytes_FromStringAndSize((const char *)sent->data + happened->written,
                                         (Py_ssize_t)(sent->size - happened->written));
    }
    if (happened->kind != EVENT_PYTHON && happened->kind != EVENT_FULL)
        return PyBytes_FromStringAndSize(NULL, 0);
    if (*message == NULL)
        *message = PyBytes_FromStringAndSize(data + framed->message_at,
                                             (Py_ssize_t)framed->message_size);
    return Py_XNewRef(*message);
}

static int append_event(PyObject **events, const Happened *happened, PyObject *bytes)
{
    if (bytes == NULL || (*events == NULL && (*events = PyList_New(0)) == NULL)) {
        Py_XDECREF(bytes);
        return -1;
    }
    PyObject *event = Py_BuildValue("(IBN)", happened->slot, happened->kind, bytes);
    int failed = event == NULL ? -1 : PyList_Append(*events, event);
    Py_XDECREF(event);
    return failed;
}

/* Nobody will write what is left of a message: end the connection, or the next would be torn. */
static void end_short(Sender *sender, Py_ssize_t number)
{
    if (number >= 0 && number < sender->size && sender->slots[number].fd >= 0)
        shutdown(sender->slots[number].fd, SHUT_RDWR);
}

void drop_events(Sender *sender, PyObject *events)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    for (Py_ssize_t at = 0; events != NULL && at < PyList_GET_SIZE(events); at++) {
        PyObject *event = PyList_GET_ITEM(events, at);
        if (PyLong_AsLong(PyTuple_GET_ITEM(event, 1)) == EVENT_SHORT)
            end_short(sender, PyLong_AsSsize_t(PyTuple_GET_ITEM(event, 0)));
    }
    Py_XDECREF(events);
    PyErr_Restore(type, value, trace);
}

int send_run(Sender *sender, const uint32_t *slots, size_t count, Framed *framed,
             PyObject **events)
{
    Happened few[RELEASE_FROM];
    Happened *happened = few;
    size_t found = 0;
    if (count < RELEASE_FROM) {
        for (size_t i = 0; i < count; i++)
            found += !send_one(sender, slots[i], framed, &happened[found]);
    } else {
        /* One more than needed: the place of the next one is written to before it is taken. */
        if ((happened = malloc((count + 1) * sizeof *happened)) == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        Py_BEGIN_ALLOW_THREADS
        for (size_t i = 0; i < count; i++)
            found += !send_one(sender, slots[i], framed, &happened[found]);
        Py_END_ALLOW_THREADS
    }
    int failed = 0;
    PyObject *message = NULL;
    for (size_t i = 0; i < found; i++) {
        if (failed == 0)
            failed = append_event(events, &happened[i],
                                  event_bytes(&happened[i], framed, &message));
        if (failed != 0 && happened[i].kind == EVENT_SHORT)
            end_short(sender, happened[i].slot);
    }
    Py_XDECREF(message);
    if (happened != few)
        free(happened);
    return failed;
}

/* --- the type --- */

static void sender_dealloc(Sender *self)
{
    free(self->slots);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int checked_slot(Py_ssize_t slot)
{
    if (slot >= 0 && slot < UINT32_MAX)
        return 0;
    PyErr_SetString(PyExc_IndexError, "no such slot");
    return -1;
}

static PyObject *sender_add(Sender *self, PyObject *args)
{
    Py_ssize_t slot;
    int fd;
    uint8_t call = 0;
    if (!PyArg_ParseTuple(args, "ni|b:add", &slot, &fd, &call) || checked_slot(slot) < 0)
        return NULL;
    if (slot >= self->size) {
        Py_ssize_t size = (slot + 1) * 2;
        Slot *slots = realloc(self->slots, (size_t)size * sizeof *slots);
        if (slots == NULL)
            return PyErr_NoMemory();
        for (Py_ssize_t i = self->size; i < size; i++)
            slots[i] = (Slot){.fd = -1};
        self->slots = slots;
        self->size = size;
    }
    self->slots[slot] = (Slot){.fd = fd, .touched = true, .call = call};
    Py_RETURN_NONE;
}

static PyObject *sender_remove(Sender *self, PyObject *arg)
{
    Py_ssize_t slot = PyLong_AsSsize_t(arg);
    if (slot == -1 && PyErr_Occurred())
        return NULL;
    if (slot >= 0 && slot < self->size)
        self->slots[slot] = (Slot){.fd = -1};
    Py_RETURN_NONE;
}

/* touch(slot, *, touched) -> whether the slot has a socket */
static PyObject *sender_touch(Sender *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"slot", "touched", NULL};
    Py_ssize_t slot;
    int touched;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n$p:touch", names, &slot, &touched))
        return NULL;
    if (slot < 0 || slot >= self->size)
        Py_RETURN_FALSE;
    self->slots[slot].touched = touched;
    return PyBool_FromLong(self->slots[slot].fd >= 0);
}

static int frame_object(Framed *framed, PyObject *body)
{
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(body, &data, &size) < 0)
        return -1;
    uint8_t *to = frame_web(framed, (size_t)size);
    if (to == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(to, data, (size_t)size);
    return 0;
}

/* Push `count` pairs; runs of the same body are framed once. */
static int push_all(Sender *self, PyObject *slots, PyObject *bodies, Framed *framed,
                    PyObject **events)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(slots);
    uint32_t *run = malloc(((size_t)count + 1) * sizeof *run);
    if (run == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int failed = 0;
    for (Py_ssize_t at = 0; at < count && failed == 0;) {
        PyObject *body = PySequence_Fast_GET_ITEM(bodies, at);
        size_t size = 0;
        for (; at < count && PySequence_Fast_GET_ITEM(bodies, at) == body && failed == 0; at++) {
            Py_ssize_t slot = PyLong_AsSsize_t(PySequence_Fast_GET_ITEM(slots, at));
            failed = slot == -1 && PyErr_Occurred() ? -1 : checked_slot(slot);
            run[size++] = (uint32_t)slot;
        }
        if (failed == 0)
            failed = frame_object(framed, body);
        if (failed == 0)
            failed = send_run(self, run, size, framed, events);
    }
    free(run);
    return failed;
}

static PyObject *sender_push(Sender *self, PyObject *args)
{
    PyObject *slots, *bodies;
    if (!PyArg_ParseTuple(args, "O!O!:push", &PyList_Type, &slots, &PyList_Type, &bodies))
        return NULL;
    if (PyList_GET_SIZE(slots) != PyList_GET_SIZE(bodies)) {
        PyErr_SetString(PyExc_ValueError, "as many slots as bodies");
        return NULL;
    }
    Framed framed = {0};
    PyObject *events = NULL;
    int failed = push_all(self, slots, bodies, &framed, &events);
    framed_free(&framed);
    if (failed != 0) {
        drop_events(self, events);
        return NULL;
    }
    return events != NULL ? events : Py_NewRef(Py_None);
}

static PyObject *sender_counts(Sender *self, PyObject *unused)
{
    (void)unused;
    return Py_BuildValue("(KK)", self->messages, self->bytes);
}

static PyMethodDef sender_methods[] = {
    {"add", (PyCFunction)sender_add, METH_VARARGS, NULL},
    {"remove", (PyCFunction)sender_remove, METH_O, NULL},
    {"touch", (PyCFunction)(void (*)(void))sender_touch, METH_VARARGS | METH_KEYWORDS, NULL},
    {"push", (PyCFunction)sender_push, METH_VARARGS, NULL},
    {"counts", (PyCFunction)sender_counts, METH_NOARGS, NULL},
    {0},
};

PyTypeObject SenderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "rallypoint.gateway._edge.Sender",
    .tp_basicsize = sizeof(Sender),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)sender_dealloc,
    .tp_methods = sender_methods,
};
