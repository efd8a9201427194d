/* The gateway's two hot paths in C; `_edge.pyi` says what they do. One thread, the event loop's. */

#ifndef RALLYPOINT_EDGE_H
#define RALLYPOINT_EDGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../kit/_varints.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- system calls, past glibc's wrappers: those are points where a thread may be canceled, which
   costs as much as all else that we do for a frame --- */

static inline ssize_t send_some(int fd, const void *data, size_t size)
{
#ifdef SYS_sendto
    return syscall(SYS_sendto, fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
#else
    return send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
#endif
}

static inline ssize_t receive_some(int fd, void *data, size_t size)
{
#ifdef SYS_recvfrom
    return syscall(SYS_recvfrom, fd, data, size, MSG_DONTWAIT, NULL, NULL);
#else
    return recv(fd, data, size, MSG_DONTWAIT);
#endif
}

/* --- bytes --- */

/* The bytes of a length-delimited field whose key was read. */
static inline bool read_bytes(Reader *from, Reader *value)
{
    uint64_t size;
    if (!read_varint(from, &size) || size > (uint64_t)(from->end - from->at))
        return false;
    value->at = from->at;
    from->at = value->end = from->at + size;
    return true;
}

/* Step over a field of any wire type whose key was read. */
bool skip_field(Reader *from, uint64_t key);

/* An array of bytes that grows. */
typedef struct {
    uint8_t *data;
    size_t size;
    size_t capacity;
} Buffer;

/* Where `more` bytes may be written at the buffer's end, which is not moved; NULL without memory. */
uint8_t *buffer_room(Buffer *buffer, size_t more);

/* --- sending (_edge_send.c) --- */

/* What happened to a message that was not simply written. */
enum Event { EVENT_PYTHON = 1, EVENT_FULL = 2, EVENT_BROKEN = 3, EVENT_SHORT = 4, EVENT_AGAIN = 5 };

typedef struct {
    int fd;       /* -1: only Python can write to it */
    bool touched; /* its transport may hold unsent bytes: Python looks first */
    bool behind;  /* its last message was skipped: Python wants to hear of the next one written */
    uint8_t call; /* its number within a WebSocket; 0: a stream with a connection of its own */
} Slot;

typedef struct {
    PyObject_HEAD
    Slot *slots;
    Py_ssize_t size;
    unsigned long long messages;
    unsigned long long bytes;
} Sender;

/* A message with the bytes that a gRPC-Web stream wants around it, and for a WebSocket if asked. */
typedef struct {
    Buffer bytes;
    size_t message_at;
    size_t message_size;
    Buffer in_socket; /* empty until the first client on a WebSocket */
    size_t call_at;
} Framed;

/* Room for a message of `size` bytes, with the framing written around it; NULL without memory. */
uint8_t *frame_web(Framed *framed, size_t size);

void framed_free(Framed *framed);

/* Write one framed message to slots; what happened is appended to *events, a list made when first
 * needed. -1 with an exception. */
int send_run(Sender *sender, const uint32_t *slots, size_t count, Framed *framed,
             PyObject **events);

/* Forget what happened; where a part of a message was written, that ends the connection. */
void drop_events(Sender *sender, PyObject *events);

extern PyTypeObject SenderType;
extern PyTypeObject RoutesType;
extern PyTypeObject FlushType;
extern PyTypeObject DrainType;

#endif
