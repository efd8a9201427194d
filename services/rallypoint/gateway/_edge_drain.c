/* The drain: requests of armed connections are read, judged and answered in batches.

   read all (no GIL) ▸ judge each: known, session, room, bucket ▸ answer those taken (no GIL).
   Whatever is not exactly what is expected goes back to Python, with the bytes, untouched. */

#include "_edge_armed.h"
#include "_edge_names.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define BATCH 256
#define WHOLE_BINARY 0x82
#define MASKED 0x80
#define TWO_BYTES 126
#define MASK_BYTES 4
#define NOWHERE UINT32_MAX
#define BUCKET_SLACK_S 1e-9

typedef struct {
    PyObject_HEAD
    int epoll;
    Armed *armed;
    uint32_t size;
    uint32_t free;
    Buffer arena;
    Buffer came; /* an array of Came */
} Drain;

static size_t came_size(const Drain *self)
{
    return self->came.size / sizeof(Came);
}

/* --- who is armed --- */

static void armed_release(Drain *self, uint32_t slot)
{
    Armed *armed = &self->armed[slot];
    Armed was = *armed;
    epoll_ctl(self->epoll, EPOLL_CTL_DEL, was.fd, NULL);
    *armed = (Armed){.fd = -1, .next_free = self->free};
    self->free = slot;
    PyObject *held[] = {was.owner, was.before, was.after, was.answer,
                        was.token, was.seat,   was.room,  was.bucket};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
        Py_DECREF(held[i]);
}

/* Hear of each arrival once: asked for every state, the kernel looks at a socket twice. */
static int watch(const Drain *self, int operation, int fd, uint32_t slot)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = slot};
    return epoll_ctl(self->epoll, operation, fd, &event);
}

static int free_place(Drain *self, uint32_t *slot)
{
    if (self->free == NOWHERE) {
        uint32_t size = self->size ? self->size * 2 : 64;
        Armed *armed = realloc(self->armed, size * sizeof *armed);
        if (armed == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->armed = armed;
        for (uint32_t i = self->size; i < size; i++)
            armed[i] = (Armed){.fd = -1, .next_free = i + 1 < size ? i + 1 : NOWHERE};
        self->free = self->size;
        self->size = size;
    }
    *slot = self->free;
    return 0;
}

/* arm(fd, owner, call, before, after, answer, token, seat, room, bucket, until_s, now) -> slot */
static PyObject *drain_arm(Drain *self, PyObject *args)
{
    Armed armed = {0};
    uint32_t slot;
    if (!PyArg_ParseTuple(args, "iObSSSSSOOdd:arm", &armed.fd, &armed.owner, &armed.call,
                          &armed.before,
                          &armed.after, &armed.answer, &armed.token, &armed.seat, &armed.room,
                          &armed.bucket, &armed.until_s, &armed.seen_at))
        return NULL;
    if (free_place(self, &slot) < 0)
        return NULL;
    if (watch(self, EPOLL_CTL_ADD, armed.fd, slot) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    self->free = self->armed[slot].next_free;
    self->armed[slot] = armed;
    PyObject *held[] = {armed.owner, armed.before, armed.after, armed.answer,
                        armed.token, armed.seat,   armed.room,  armed.bucket};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
        Py_INCREF(held[i]);
    return PyLong_FromUnsignedLong(slot);
}

static Armed *armed_at(Drain *self, PyObject *number)
{
    unsigned long slot = PyLong_AsUnsignedLong(number);
    if (slot == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (slot < self->size && self->armed[slot].fd >= 0)
        return &self->armed[slot];
    PyErr_SetString(PyExc_KeyError, "nothing is armed there");
    return NULL;
}

static PyObject *drain_disarm(Drain *self, PyObject *number)
{
    Armed *armed = armed_at(self, number);
    if (armed == NULL)
        return NULL;
    armed_release(self, (uint32_t)(armed - self->armed));
    Py_RETURN_NONE;
}

static PyObject *drain_seen_at(Drain *self, PyObject *number)
{
    Armed *armed = armed_at(self, number);
    return armed == NULL ? NULL : PyFloat_FromDouble(armed->seen_at);
}

/* --- one batch --- */

static Came *next_came(Drain *self, uint32_t slot, size_t at, size_t size)
{
    Came *came = (Came *)buffer_room(&self->came, sizeof *came);
    if (came == NULL)
        return NULL;
    self->came.size += sizeof *came;
    *came = (Came){.slot = slot, .at = at, .size = size};
    return came;
}

static bool take_post(Drain *self, uint32_t slot, size_t at, size_t size)
{
    Came *came = next_came(self, slot, at, size);
    if (came == NULL)
        return false;
    size_t fields = recognize_post(&self->armed[slot], self->arena.data + at, size);
    came->known = fields != 0;
    came->fields = at + fields;
    came->fields_size = size - fields;
    return true;
}

/* The size of the head of a whole, masked, binary frame that fits, and its payload's; else 0. */
static size_t socket_head(const uint8_t *data, size_t size, size_t *payload)
{
    size_t head = 2;
    if (size < head || data[0] != WHOLE_BINARY || data[1] < MASKED)
        return 0;
    *payload = data[1] & ~MASKED;
    if (*payload == TWO_BYTES && size >= 4) {
        *payload = (size_t)data[2] << 8 | data[3];
        head = 4;
    }
    bool shortest = head == 2 ? *payload < TWO_BYTES : *payload >= TWO_BYTES;
    head += MASK_BYTES;
    return shortest && size >= head && *payload <= size - head ? head : 0;
}

/* Cut what was read into frames, up to the first that is not one of the lane's messages. */
static bool take_frames(Drain *self, uint32_t slot, size_t at, size_t end)
{
    do {
        size_t payload = 0, fields = 0, plain = self->arena.size;
        size_t head = socket_head(self->arena.data + at, end - at, &payload);
        if (head != 0) {
            uint8_t *to = buffer_room(&self->arena, payload);
            if (to == NULL)
                return false;
            const uint8_t *from = self->arena.data + at + head;
            const uint8_t *mask = from - MASK_BYTES;
            for (size_t i = 0; i < payload; i++)
                to[i] = from[i] ^ mask[i % MASK_BYTES];
            self->arena.size += payload;
            fields = recognize_message(&self->armed[slot], to, payload);
        }
        Came *came = next_came(self, slot, at, end - at);
        if (came == NULL)
            return false;
        came->known = fields != 0;
        came->fields = plain + fields;
        came->fields_size = payload - fields;
        if (!came->known)
            return true;
        at += head + payload;
    } while (at < end);
    return true;
}

/* Read one connection; false without memory. What came with the last read is told of again. */
static bool read_one(Drain *self, uint32_t slot, bool ended)
{
    uint8_t *to = buffer_room(&self->arena, READ_BYTES);
    if (to == NULL)
        return false;
    ssize_t size;
    do {
        size = receive_some(self->armed[slot].fd, to, READ_BYTES);
    } while (size < 0 && errno == EINTR);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return true;
    size_t at = self->arena.size, read = size > 0 ? (size_t)size : 0;
    self->arena.size += read;
    if (read == READ_BYTES || (ended && read > 0)) /* more, or an end, nobody would tell of */
        watch(self, EPOLL_CTL_MOD, self->armed[slot].fd, slot);
    bool post = self->armed[slot].call == 0 || read == 0;
    return post ? take_post(self, slot, at, read) : take_frames(self, slot, at, at + read);
}

/* What comes in a drain lies anywhere in memory: have the processor fetch it for all connections
   side by side, not one cache line after the other when it is needed. */
static void fetch_armed(const Drain *self, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++)
        __builtin_prefetch(&self->armed[events[i].data.u32]);
    for (int i = 0; i < count; i++) {
        const Armed *armed = &self->armed[events[i].data.u32];
        __builtin_prefetch(armed->room);
        __builtin_prefetch((char *)armed->room + 64);
        __builtin_prefetch(armed->bucket);
        __builtin_prefetch(armed->token);
        __builtin_prefetch(armed->seat);
        __builtin_prefetch(armed->before);
        __builtin_prefetch(armed->after);
    }
}

static void fetch_judged(const Drain *self)
{
    const Came *came = (const Came *)self->came.data;
    for (size_t i = 0; i < came_size(self); i++) {
        const Armed *armed = &self->armed[came[i].slot];
        __builtin_prefetch(peek(armed->bucket, BUCKET_FULL_AT));
        __builtin_prefetch(peek(armed->room, RHYTHM));
    }
    for (size_t i = 0; i < came_size(self); i++) {
        PyObject *rhythm = peek(self->armed[came[i].slot].room, RHYTHM);
        if (rhythm != NULL)
            __builtin_prefetch(peek(rhythm, PERIOD_S));
    }
}

/* Read what is there, without the GIL; the number of connections, -1 without memory. */
static int read_all(Drain *self)
{
    struct epoll_event events[BATCH];
    int found = epoll_wait(self->epoll, events, BATCH, 0);
    self->arena.size = self->came.size = 0;
    fetch_armed(self, events, found);
    for (int i = 0; i < found; i++)
        if (!read_one(self, events[i].data.u32,
                      (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0))
            return -1;
    return found > 0 ? found : 0;
}

typedef struct {
    double now;    /* loop time */
    double now_s;  /* unix time */
    double lead_s; /* how long before its tick an input leaves */
    double interval_s; /* of the buckets */
    double depth_s;
} Terms;

/* 1 when the bucket has a token for it, 0 when not, -1 with an exception: `Buckets.take`. */
static int take_token(const Terms *terms, PyObject *bucket)
{
    double full_at;
    if (number_of(bucket, BUCKET_FULL_AT, &full_at) < 0)
        return -1;
    full_at = fmax(full_at, terms->now) + terms->interval_s;
    if (full_at - terms->now - terms->depth_s > BUCKET_SLACK_S)
        return 0;
    return set_number(bucket, BUCKET_FULL_AT, full_at) < 0 ? -1 : 1;
}

/* 1 when a known input may pass, which takes from its bucket; 0 when not; -1 with an exception. */
static int may_pass(const Armed *armed, const Terms *terms)
{
    int passes = armed->until_s > terms->now_s ? has_node(armed) : 0;
    return passes == 1 ? take_token(terms, armed->bucket) : passes;
}

/* Judge all; what may not pass is known no more. The number taken, or -1. */
static Py_ssize_t judge_all(Drain *self, const Terms *terms, Groups *groups)
{
    Came *came = (Came *)self->came.data;
    Py_ssize_t taken = 0;
    int passed = 0;
    fetch_judged(self);
    for (size_t i = 0; i < came_size(self) && passed >= 0; i++) {
        Came *one = &came[i];
        Armed *armed = &self->armed[one->slot];
        one->behind = i > 0 && came[i - 1].slot == one->slot
                      && (came[i - 1].behind || !came[i - 1].known);
        if (!one->known || one->behind)
            continue;
        passed = may_pass(armed, terms);
        one->known = passed == 1;
        if (passed != 1)
            continue;
        armed->seen_at = terms->now;
        taken++;
        passed = group_input(groups, armed, self->arena.data + one->fields, one->fields_size,
                             terms->now, terms->lead_s);
    }
    return passed < 0 ? -1 : taken;
}

/* Answer those taken that want an answer, without the GIL. */
static void answer_all(Drain *self)
{
    Came *came = (Came *)self->came.data;
    for (size_t i = 0; i < came_size(self); i++) {
        Came *one = &came[i];
        const Armed *armed = &self->armed[one->slot];
        if (!one->known || armed->call != 0)
            continue;
        do {
            one->answered = send_some(armed->fd, PyBytes_AS_STRING(armed->answer),
                                      (size_t)PyBytes_GET_SIZE(armed->answer));
        } while (one->answered < 0 && errno == EINTR);
    }
}

static bool is_done(const Drain *self, const Came *one)
{
    const Armed *armed = &self->armed[one->slot];
    return one->behind
           || (one->known
               && (armed->call != 0 || one->answered == PyBytes_GET_SIZE(armed->answer)));
}

/* Disarm one connection and tell its owner what came and what of the answer is unsent. */
static int give_back(Drain *self, const Came *one, PyObject *list)
{
    const Armed *armed = &self->armed[one->slot];
    const char *data = (const char *)self->arena.data + one->at;
    Py_ssize_t size = one->known ? 0 : (Py_ssize_t)one->size;
    Py_ssize_t answer = one->known ? PyBytes_GET_SIZE(armed->answer) : 0;
    Py_ssize_t sent = one->known && one->answered > 0 ? one->answered : 0;
    PyObject *item = Py_BuildValue("(Oy#y#)", armed->owner, data, size,
                                   PyBytes_AS_STRING(armed->answer) + sent, answer - sent);
    armed_release(self, one->slot);
    int failed = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return failed;
}

static PyObject *give_back_all(Drain *self)
{
    PyObject *list = PyList_New(0);
    const Came *came = (const Came *)self->came.data;
    for (size_t i = 0; i < came_size(self) && list != NULL; i++)
        if (!is_done(self, &came[i]) && give_back(self, &came[i], list) < 0)
            Py_CLEAR(list);
    return list;
}

/* drain(now, now_s, lead_s, interval_s, depth_s) -> (taken, groups, back, full) */
static PyObject *drain_drain(Drain *self, PyObject *args)
{
    Terms terms;
    Groups groups = {0};
    PyObject *by_node = NULL, *back = NULL;
    int count;
    if (!PyArg_ParseTuple(args, "ddddd:drain", &terms.now, &terms.now_s, &terms.lead_s,
                          &terms.interval_s, &terms.depth_s))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    count = read_all(self);
    Py_END_ALLOW_THREADS
    if (count < 0)
        return PyErr_NoMemory();
    Py_ssize_t taken = judge_all(self, &terms, &groups);
    if (taken >= 0) {
        Py_BEGIN_ALLOW_THREADS
        answer_all(self);
        Py_END_ALLOW_THREADS
        by_node = groups_as_list(&groups);
        back = by_node == NULL ? NULL : give_back_all(self);
    }
    groups_free(&groups);
    if (back == NULL) {
        Py_XDECREF(by_node);
        return NULL;
    }
    return Py_BuildValue("(nNNO)", taken, by_node, back, count == BATCH ? Py_True : Py_False);
}

/* --- the type --- */

static PyObject *drain_fileno(Drain *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(self->epoll);
}

static PyObject *drain_close(Drain *self, PyObject *unused)
{
    (void)unused;
    for (uint32_t slot = 0; slot < self->size; slot++)
        if (self->armed[slot].fd >= 0)
            armed_release(self, slot);
    if (self->epoll >= 0)
        close(self->epoll);
    self->epoll = -1;
    Py_RETURN_NONE;
}

static PyObject *drain_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    Drain *self = (Drain *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->free = NOWHERE;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll < 0) {
        Py_DECREF(self);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return (PyObject *)self;
}

static void drain_dealloc(Drain *self)
{
    Py_XDECREF(drain_close(self, NULL));
    free(self->armed);
    free(self->arena.data);
    free(self->came.data);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef drain_methods[] = {
    {"arm", (PyCFunction)drain_arm, METH_VARARGS, NULL},
    {"disarm", (PyCFunction)drain_disarm, METH_O, NULL},
    {"seen_at", (PyCFunction)drain_seen_at, METH_O, NULL},
    {"drain", (PyCFunction)drain_drain, METH_VARARGS, NULL},
    {"fileno", (PyCFunction)drain_fileno, METH_NOARGS, NULL},
    {"close", (PyCFunction)drain_close, METH_NOARGS, NULL},
    {0},
};

PyTypeObject DrainType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "rallypoint.gateway._edge.Drain",
    .tp_basicsize = sizeof(Drain),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = drain_new,
    .tp_dealloc = (destructor)drain_dealloc,
    .tp_methods = drain_methods,
};
