/* The load of the benches: thousands of players on one core.
 *
 *     load = Load(host="127.0.0.1", port=8080, transport="grpc-web", input_hz=10,
 *                 inputs=packed, input_size=8)
 *     load.add(join, head)        # opens the player's sockets and sends `join`
 *     load.run()                  # plays, without the GIL, until another thread calls stop()
 *     load.counts()               # totals so far; whoever measures takes a difference
 *
 * One thread plays: an epoll loop reads, and a wheel of 1 ms slots says whose turn to send it is.
 * Other threads only add players and read totals. Players that break are counted and not mended. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "_load_client.h"
#include "_load_floor.h"
#include "_load_wire.h"
#include "_load_ws.h"

enum { EVENTS = 512, HEARD_BYTES = 1 << 18, UP = 1, REST_NS = 500000 };

typedef struct {
    Client **clients;
    size_t count, cap;
} Slot;

typedef struct {
    PyObject_HEAD
    Shared shared;
    struct sockaddr_in server;
    PyObject *inputs;
    Client **clients;
    size_t count, cap;
    Slot *slots;
    uint32_t slot_count, placed;
    int epoll;
    atomic_int stopping, running;
} Load;

static int append(Client ***clients, size_t *count, size_t *cap, Client *client)
{
    if (*count == *cap) {
        size_t more = *cap ? *cap * 2 : 64;
        Client **grown = realloc(*clients, more * sizeof *grown);
        if (!grown)
            return -1;
        *clients = grown;
        *cap = more;
    }
    (*clients)[(*count)++] = client;
    return 0;
}

/* --- players --- */

static int connected(Load *load)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&load->server, sizeof load->server)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int watch(Load *load, Client *client, int fd, uint64_t way)
{
    struct epoll_event event = {EPOLLIN, {.u64 = (uint64_t)(uintptr_t)client | way}};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &event);
}

static int opened(Load *load, Client *client, const void *join, size_t size)
{
    client->down = connected(load);
    client->up = client->down;
    if (client->down < 0)
        return -1;
    int apart = load->shared.transport == GRPC_WEB ||
                (load->shared.transport == RAW && client->head.len);
    if (apart) {
        client->up = connected(load);
        if (client->up < 0)
            return -1;
        if (load->shared.transport == RAW && send(client->up, "U", 1, MSG_NOSIGNAL) != 1)
            return -1;
    }
    if (send(client->down, join, size, MSG_NOSIGNAL) != (ssize_t)size)
        return -1;
    if (client->up != client->down && watch(load, client, client->up, UP))
        return -1;
    if (load->shared.transport == RAW)
        client->phase = JOINING; /* plays from the first byte on */
    return watch(load, client, client->down, 0);
}

static void forget(Client *client)
{
    if (client->up >= 0 && client->up != client->down)
        close(client->up);
    if (client->down >= 0)
        close(client->down);
    Bytes *all[] = {&client->heard, &client->answer, &client->head,
                    &client->token, &client->first,  &client->unsent};
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        bytes_free(all[n]);
    free(client);
}

/* --- the loop --- */

static void hear(Load *load, Client *client, const uint8_t *data, size_t len)
{
    Shared *shared = &load->shared;
    shared->counts.bytes_down += len;
    switch (shared->transport) {
    case GRPC_WEB:
        hear_http(shared, client, data, len);
        break;
    case RAW:
        shared->counts.frames++;
        if (client->phase == JOINING) {
            client->phase = PLAYING;
            shared->playing++;
        }
        break;
    default:
        hear_ws(shared, client, data, len);
    }
}

static void hear_socket(Load *load, Client *client, uint64_t way, uint8_t *heard)
{
    int fd = way ? client->up : client->down;
    enum Phase before = client->phase;
    ssize_t got = recv(fd, heard, HEARD_BYTES, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        epoll_ctl(load->epoll, EPOLL_CTL_DEL, fd, NULL);
        fail(&load->shared, client, STREAM_BROKEN);
    } else if (client->phase != OVER && way) {
        hear_answer(&load->shared, client, heard, (size_t)got);
    } else if (client->phase != OVER) {
        hear(load, client, heard, (size_t)got);
    }
    if (client->phase == PLAYING && before != PLAYING) {
        /* 37 and the usual numbers of slots have no divisor in common: neighbours lie apart. */
        Slot *slot = &load->slots[load->placed++ * 37 % load->slot_count];
        append(&slot->clients, &slot->count, &slot->cap, client);
    }
    if (client->phase == OVER && before != OVER)
        shutdown(client->down, SHUT_RDWR);
}

static void take_turns(Load *load, Slot *slot, int64_t late_ns)
{
    load->shared.counts.slots++;
    load->shared.counts.late_slots += late_ns > 20 * SLOT_NS;
    for (size_t n = 0; n < slot->count; n++)
        make_input(&load->shared, slot->clients[n]);
}

/* Sleep to the next half of a millisecond: waking for each frame alone would cost most of a core,
 * and the servers, which would have to do the waking, would pay for that as well. */
static void rest(int64_t began)
{
    int64_t until = began - began % REST_NS + REST_NS;
    struct timespec time = {until / 1000000000, until % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static void play(Load *load)
{
    struct epoll_event events[EVENTS];
    uint8_t *heard = malloc(HEARD_BYTES);
    uint64_t turn = 0;
    int64_t due = now_ns();
    while (heard && !atomic_load(&load->stopping)) {
        int64_t now = now_ns();
        for (; due <= now; due += SLOT_NS, turn++)
            take_turns(load, &load->slots[turn % load->slot_count], now - due);
        int n = epoll_wait(load->epoll, events, EVENTS, 0);
        for (int i = 0; i < n; i++) {
            uint64_t tagged = events[i].data.u64;
            Client *client = (Client *)(uintptr_t)(tagged & ~(uint64_t)UP);
            hear_socket(load, client, tagged & UP, heard);
        }
        if (n < EVENTS)
            rest(now);
    }
    free(heard);
}

/* --- Python --- */

static PyObject *load_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"host", "port", "transport", "input_hz", "inputs", "input_size", NULL};
    const char *host, *transport;
    int port, input_hz;
    Py_ssize_t input_size;
    PyObject *inputs;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sisiSn", names, &host, &port, &transport,
                                     &input_hz, &inputs, &input_size))
        return NULL;
    Load *load = (Load *)type->tp_alloc(type, 0);
    if (!load)
        return NULL;
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->inputs = Py_NewRef(inputs);
    Shared *shared = &load->shared;
    const char *kinds[] = {"grpc-web", "websocket", "colyseus", "raw", NULL};
    int kind = 0;
    while (kinds[kind] && strcmp(kinds[kind], transport))
        kind++;
    shared->transport = (enum Transport)kind;
    shared->inputs = (const uint8_t *)PyBytes_AS_STRING(inputs);
    shared->input_size = (size_t)input_size;
    shared->input_count = input_size > 0 ? (size_t)(PyBytes_GET_SIZE(inputs) / input_size) : 0;
    load->server.sin_family = AF_INET;
    load->server.sin_port = htons((uint16_t)port);
    int too_large = kind != RAW && input_size > MAX_INPUT_BYTES;
    if (!kinds[kind] || !shared->input_count || too_large || input_hz < 1 || input_hz > 100 ||
        load->epoll < 0 || inet_pton(AF_INET, host, &load->server.sin_addr) != 1) {
        Py_DECREF(load);
        PyErr_SetString(PyExc_ValueError, "a load needs an IPv4 host, a known transport, inputs");
        return NULL;
    }
    load->slot_count = (uint32_t)(1000 / input_hz);
    load->slots = calloc(load->slot_count, sizeof *load->slots);
    if (!load->slots) {
        Py_DECREF(load);
        return PyErr_NoMemory();
    }
    return (PyObject *)load;
}

static void load_dealloc(Load *load)
{
    for (size_t n = 0; n < load->count; n++)
        forget(load->clients[n]);
    for (uint32_t n = 0; load->slots && n < load->slot_count; n++)
        free(load->slots[n].clients);
    free(load->slots);
    free(load->clients);
    if (load->epoll >= 0)
        close(load->epoll);
    Py_XDECREF(load->inputs);
    Py_TYPE(load)->tp_free((PyObject *)load);
}

PyDoc_STRVAR(add_doc, "add(join, head=b'', first=b'')\n--\n\nOpen a player's sockets and send "
                      "`join`. `head` starts each input call; `first` opens a WebSocket's stream.");

static PyObject *load_add(Load *load, PyObject *args)
{
    Py_buffer join, head = {0}, first = {0};
    if (!PyArg_ParseTuple(args, "y*|y*y*", &join, &head, &first))
        return NULL;
    Client *client = calloc(1, sizeof *client);
    int failed = !client || head.len > 4096;
    if (!failed) {
        client->down = client->up = -1;
        client->number = (uint32_t)load->count;
        client->pattern = client->number * 7919;
        failed = bytes_add(&client->head, head.buf, (size_t)head.len) ||
                 bytes_add(&client->first, first.buf, (size_t)first.len) ||
                 append(&load->clients, &load->count, &load->cap, client);
    }
    if (!failed) {
        int lost;
        Py_BEGIN_ALLOW_THREADS
        lost = opened(load, client, join.buf, (size_t)join.len);
        Py_END_ALLOW_THREADS
        if (lost)
            fail(&load->shared, client, CONNECT_FAILED);
    }
    PyBuffer_Release(&join);
    PyBuffer_Release(&head);
    PyBuffer_Release(&first);
    return failed ? PyErr_NoMemory() : Py_NewRef(Py_None);
}

static PyObject *load_run(Load *load, PyObject *nothing)
{
    if (atomic_exchange(&load->running, 1)) {
        PyErr_SetString(PyExc_RuntimeError, "it runs already");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    play(load);
    Py_END_ALLOW_THREADS
    atomic_store(&load->running, 0);
    Py_RETURN_NONE;
}

static PyObject *load_stop(Load *load, PyObject *nothing)
{
    atomic_store(&load->stopping, 1);
    Py_RETURN_NONE;
}

static PyObject *load_hush(Load *load, PyObject *nothing)
{
    load->shared.quiet = 1;
    Py_RETURN_NONE;
}

static PyObject *load_speak(Load *load, PyObject *nothing)
{
    load->shared.quiet = 0;
    Py_RETURN_NONE;
}

static PyObject *load_coming(Load *load, PyObject *nothing)
{
    return PyLong_FromLongLong(
        (long long)(load->count - load->shared.playing - load->shared.over));
}

static PyObject *load_counts(Load *load, PyObject *nothing)
{
    const Counts *c = &load->shared.counts;
    PyObject *faults = PyDict_New();
    for (int n = 0; faults && n < FAULTS; n++) {
        PyObject *count = PyLong_FromUnsignedLongLong(c->faults[n]);
        if (!count || PyDict_SetItemString(faults, FAULT_NAMES[n], count))
            Py_CLEAR(faults);
        Py_XDECREF(count);
    }
    if (!faults)
        return NULL;
    return Py_BuildValue(
        "{sKsKsKsKsKsKsKsKsKsKsKsKsKsIsssNsy#}", "playing", load->shared.playing, "frames",
        c->frames, "frame_bytes", c->frame_bytes, "keyframes", c->keyframes, "inputs", c->inputs,
        "input_calls", c->input_calls, "answers", c->answers, "echoes", c->echoes, "bytes_down",
        c->bytes_down, "bytes_up", c->bytes_up, "bytes_answers", c->bytes_answers, "late_slots",
        c->late_slots, "slots", c->slots, "send_hz", load->shared.send_hz, "words", load->shared.words, "faults", faults, "echo",
        (const char *)c->echo, (Py_ssize_t)sizeof c->echo);
}

static PyMethodDef load_methods[] = {
    {"add", (PyCFunction)load_add, METH_VARARGS, add_doc},
    {"run", (PyCFunction)load_run, METH_NOARGS, "Play until stop(); releases the GIL."},
    {"stop", (PyCFunction)load_stop, METH_NOARGS, "Make run() return soon."},
    {"hush", (PyCFunction)load_hush, METH_NOARGS, "Let nobody send more than a first input until speak()."},
    {"speak", (PyCFunction)load_speak, METH_NOARGS, "Let everybody send inputs again."},
    {"coming", (PyCFunction)load_coming, METH_NOARGS, "Players added that do not play yet."},
    {"counts", (PyCFunction)load_counts, METH_NOARGS, "Totals so far."},
    {0}
};

static PyTypeObject load_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "rallypoint.cli._load.Load",
    .tp_basicsize = sizeof(Load),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Players and what is counted of them.",
    .tp_new = load_new,
    .tp_dealloc = (destructor)load_dealloc,
    .tp_methods = load_methods,
};

static PyObject *module_seats_ack(PyObject *self, PyObject *args)
{
    Py_buffer data;
    unsigned rows, slot;
    if (!PyArg_ParseTuple(args, "y*II", &data, &rows, &slot))
        return NULL;
    int ack = seats_ack(data.buf, (size_t)data.len, rows, slot);
    PyBuffer_Release(&data);
    return PyLong_FromLong(ack);
}

static PyObject *module_glance(PyObject *self, PyObject *args)
{
    Py_buffer data;
    unsigned rows, slot;
    Glance seen;
    Field f;
    if (!PyArg_ParseTuple(args, "y*II", &data, &rows, &slot))
        return NULL;
    const uint8_t *at = data.buf;
    Reader message = {at, at + data.len};
    int plain = read_field(&message, &f) && f.number == 2 && f.wire == 2 &&
                message.at == message.end && glance_frame(f.inner, rows, slot, &seen) &&
                !seen.events;
    PyBuffer_Release(&data);
    if (!plain)
        Py_RETURN_NONE;
    return Py_BuildValue("KKKi", seen.epoch, seen.tick, seen.base, seen.ack);
}

static PyObject *module_heard(PyObject *self, PyObject *args)
{
    static const uint8_t none[1];
    Py_buffer stream;
    Py_ssize_t cut;
    int websocket = 0;
    if (!PyArg_ParseTuple(args, "y*n|p", &stream, &cut, &websocket))
        return NULL;
    Shared *shared = calloc(1, sizeof *shared);
    Client *client = calloc(1, sizeof *client);
    PyObject *result = NULL;
    if (shared && client && cut > 0) {
        shared->inputs = none;
        client->down = client->up = -1;
        for (Py_ssize_t at = 0; at < stream.len; at += cut) {
            Py_ssize_t size = stream.len - at < cut ? stream.len - at : cut;
            (websocket ? hear_ws : hear_http)(
                shared, client, (const uint8_t *)stream.buf + at, (size_t)size);
        }
        result = Py_BuildValue("{sKsKsKsIsIsO}", "ack", client->ack, "frames",
                               shared->counts.frames, "frame_bytes", shared->counts.frame_bytes,
                               "slot", client->slot, "tick", client->tick, "playing",
                               client->phase == PLAYING ? Py_True : Py_False);
        forget(client);
        client = NULL;
    }
    free(client);
    free(shared);
    PyBuffer_Release(&stream);
    return result ? result : PyErr_NoMemory();
}

static PyObject *module_serve_floor(PyObject *self, PyObject *args)
{
    FloorSpec spec;
    FloorResult result;
    int lost;
    if (!PyArg_ParseTuple(args, "iIInnId", &spec.listener, &spec.streams, &spec.sockets,
                          (Py_ssize_t *)&spec.frame_bytes, (Py_ssize_t *)&spec.answer_bytes,
                          &spec.frame_hz, &spec.seconds))
        return NULL;
    if (spec.frame_bytes > 65536 || spec.answer_bytes > 65536 || !spec.frame_hz ||
        spec.frame_hz > 200) {
        PyErr_SetString(PyExc_ValueError, "too many bytes, or no rate");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    lost = floor_serve(&spec, &result);
    Py_END_ALLOW_THREADS
    if (lost) {
        PyErr_SetString(PyExc_ConnectionError, "not everybody came");
        return NULL;
    }
    return Py_BuildValue("{sKsKsKsKsdsd}", "frames", result.frames, "reads", result.reads,
                         "answers", result.answers, "failed", result.failed, "cpu_s",
                         result.cpu_s, "seconds", result.seconds);
}

static PyMethodDef module_methods[] = {
    {"seats_ack", module_seats_ack, METH_VARARGS,
     "The ack of a slot in a section of table 0; -1 when it says nothing, -2 when malformed."},
    {"glance", module_glance, METH_VARARGS,
     "glance(message, rows, slot): epoch, tick, base_tick and the slot's ack (-1: not said) of a "
     "JoinResponse that is a frame without events; None for all others."},
    {"heard", module_heard, METH_VARARGS,
     "heard(stream, cut, websocket=False): what a player knows after a response to Join, or the "
     "answers on a WebSocket, that came in pieces of `cut` bytes."},
    {"serve_floor", module_serve_floor, METH_VARARGS,
     "serve_floor(listener, streams, sockets, frame_bytes, answer_bytes, frame_hz, seconds)"},
    {0}
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "rallypoint.cli._load", "Thousands of players on one core.", -1,
    module_methods
};

PyMODINIT_FUNC PyInit__load(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made && (PyType_Ready(&load_type) ||
                 PyModule_AddObjectRef(made, "Load", (PyObject *)&load_type)))
        Py_CLEAR(made);
    return made;
}
