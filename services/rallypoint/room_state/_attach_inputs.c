/* Inputs out of AttachRequests (wire.md §7), into the rings of their seats. */
#include "_attach.h"

#include <string.h>

#define INPUTS_FIELD 4

/* --- protobuf --- */

typedef struct {
    uint64_t field, number; /* `number` is the value of a varint field */
    unsigned type;
    Reader bytes; /* of a length-delimited one */
} Field;

static int read_field(Reader *from, Field *field)
{
    uint64_t tag, size;
    if (!read_varint(from, &tag))
        return -1;
    field->field = tag >> 3;
    field->type = tag & 7;
    switch (field->type) {
    case 0:
        return read_varint(from, &field->number) ? 0 : -1;
    case 1:
        size = 8;
        break;
    case 2:
        if (!read_varint(from, &size))
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

/* --- looking ahead --- */

#define AHEAD 128 /* inputs of one look; a tick of a full table brings about as many */

typedef struct {
    Reader room;
    uint32_t slot;
    const Door *door;
} Ahead;

/* Whose the next inputs are: at most AHEAD, and none behind what is no field. */
static size_t look_ahead(Reader from, Ahead *ahead)
{
    Field field;
    Sent sent;
    size_t count = 0;
    while (count < AHEAD && from.at < from.end && read_field(&from, &field) == 0) {
        if (field.field != INPUTS_FIELD || field.type != 2)
            continue;
        Reader input = field.bytes;
        if (read_field(&input, &field) < 0 || field.field != 1 || field.type != 2)
            continue;
        sent.room = (Reader){input.at, input.at};
        sent.slot = 0;
        if (read_seat(field.bytes, &sent) == 0)
            ahead[count++] = (Ahead){.room = sent.room, .slot = sent.slot};
    }
    return count;
}

/* What inputs need lies anywhere in memory: have the processor fetch it for all of them side by
 * side, not one cache line after the other when it is needed. Nothing is decided here. */
static void fetch_ahead(const Doors *doors, Reader from)
{
    Ahead ahead[AHEAD];
    size_t count = look_ahead(from, ahead);
    for (size_t i = 0; i < count; i++)
        fetch_place(doors, ahead[i].room);
    for (size_t i = 0; i < count; i++) {
        ahead[i].door = door_of_room(doors, ahead[i].room);
        __builtin_prefetch(ahead[i].door);
        __builtin_prefetch((const char *)ahead[i].door + 64);
    }
    for (size_t i = 0; i < count; i++) {
        const Door *door = ahead[i].door;
        if (door == NULL || ahead[i].slot >= door->seats)
            continue;
        Py_ssize_t seat = door->first + (Py_ssize_t)ahead[i].slot;
        __builtin_prefetch(&door->generations[ahead[i].slot]);
        if (door->heard.obj != NULL)
            __builtin_prefetch((const int64_t *)door->heard.buf + seat * HEARD, 1);
        rings_api->fetch(door->rings, seat);
    }
}

/* --- requests --- */

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
static int pass_on(const Doors *doors, const Sent *sent)
{
    const Door *door = door_of_room(doors, sent->room);
    if (door == NULL || sent->count > MOST_INPUTS)
        return 0; /* with no door the room may have moved, and the gateway not know */
    if (sent->slot >= door->seats || !sent->generation ||
        door->generations[sent->slot] != sent->generation)
        return 1;
    Py_ssize_t seat = door->first + (Py_ssize_t)sent->slot;
    hear(door, seat, sent);
    int failed = rings_api->offer(door->rings, seat, sent->first_seq, sent->inputs, sent->count);
    return failed < 0 ? -1 : 1;
}

static int take_all(const Doors *doors, Reader from, uint8_t *rest, size_t *left)
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

PyObject *take_inputs(Doors *doors, PyObject *data)
{
    char *at;
    Py_ssize_t size;
    size_t left = 0;
    if (PyBytes_AsStringAndSize(data, &at, &size) < 0)
        return NULL;
    PyObject *rest = PyBytes_FromStringAndSize(NULL, size);
    if (rest == NULL)
        return NULL;
    Reader all = {(const uint8_t *)at, (const uint8_t *)at + size};
    fetch_ahead(doors, all);
    if (take_all(doors, all, (uint8_t *)PyBytes_AS_STRING(rest), &left) < 0)
        Py_CLEAR(rest);
    else if (_PyBytes_Resize(&rest, (Py_ssize_t)left) < 0)
        return NULL;
    return rest;
}
