/* What a known request holds: the plain form of domain/inputs.py, and where it is to go. */

#include "_edge_armed.h"
#include "_edge_names.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_ACK_TICK = 2 << 3, KEY_FIRST_SEQ = 3 << 3, KEY_INPUT = 4 << 3 | 2, KEY_VIEW = 5 << 3 };
enum { KEY_CLIENT_INPUT = 4 << 3 | 2, INPUTS_MAX = 8, INPUT_BYTES_MAX = 64, VARINT_BYTES_MAX = 5 };
enum { KEY_MARGIN = 6 << 3, MARGIN_MS_END = 1 << 12 };
#define STALE_PERIODS 4

static bool skip_number(Reader *from, uint8_t key)
{
    if (from->at == from->end || *from->at != key)
        return true;
    from->at++;
    for (int i = 0; i < VARINT_BYTES_MAX && from->at < from->end; i++)
        if (*from->at++ < 0x80)
            return true;
    return false;
}

/* [ack_tick] [first_seq] up to eight inputs of up to 64 bytes [view_ms], and nothing else. */
static bool is_plain(Reader from)
{
    if (!skip_number(&from, KEY_ACK_TICK) || !skip_number(&from, KEY_FIRST_SEQ))
        return false;
    for (int count = 0; from.at < from.end && from.at[0] != KEY_VIEW; count++) {
        if (count == INPUTS_MAX || from.end - from.at < 2 || from.at[0] != KEY_INPUT)
            return false;
        size_t size = from.at[1];
        from.at += 2;
        if (size > INPUT_BYTES_MAX || size > (size_t)(from.end - from.at))
            return false;
        from.at += size;
    }
    return skip_number(&from, KEY_VIEW) && from.at == from.end;
}

static bool starts_with(Reader *from, PyObject *bytes)
{
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);
    if ((size_t)(from->end - from->at) < size
        || memcmp(from->at, PyBytes_AS_STRING(bytes), size) != 0)
        return false;
    from->at += size;
    return true;
}

static bool read_decimal(Reader *from, size_t *number)
{
    int digits = 0;
    *number = 0;
    while (digits < 4 && from->at < from->end && *from->at >= '0' + !digits && *from->at <= '9') {
        *number = *number * 10 + (size_t)(*from->at++ - '0');
        digits++;
    }
    return digits > 0;
}

/* The flag and length of the one uncompressed gRPC frame that is the body. */
static bool read_frame_head(Reader *from, size_t body)
{
    const uint8_t *at = from->at;
    if ((size_t)(from->end - at) != body || body < 5 || at[0] != 0)
        return false;
    from->at += 5;
    return ((size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4]) == body - 5;
}

static size_t read_body(Reader *from, size_t body, const Armed *armed, const uint8_t *start)
{
    if (!read_frame_head(from, body) || !starts_with(from, armed->token) || !is_plain(*from))
        return 0;
    return (size_t)(from->at - start);
}

size_t recognize_post(const Armed *armed, const uint8_t *data, size_t size)
{
    Reader from = {data, data + size};
    size_t body;
    if (!starts_with(&from, armed->before) || !read_decimal(&from, &body)
        || !starts_with(&from, armed->after))
        return 0;
    return read_body(&from, body, armed, data);
}

size_t recognize_message(const Armed *armed, const uint8_t *data, size_t size)
{
    Reader from = {data + 1, data + size};
    if (size == 0 || data[0] != armed->call)
        return 0;
    return read_body(&from, size - 1, armed, data);
}

/* --- where it goes --- */

/* How long the room's inputs may wait: domain/rhythm.py. */
static int wait_of(PyObject *room, double now, double lead_s, double *wait_s)
{
    double seen_at = 0, period_s = 0;
    PyObject *held = NULL, *rhythm = attribute(room, RHYTHM, &held);
    int failed = rhythm == NULL ? -1 : number_of(rhythm, SEEN_AT, &seen_at);
    if (failed == 0)
        failed = number_of(rhythm, PERIOD_S, &period_s);
    Py_XDECREF(held);
    double since = now - seen_at;
    *wait_s = 0.0;
    if (since < period_s * STALE_PERIODS)
        *wait_s = fmax(0.0, period_s - fmod(since, period_s) - lead_s);
    return failed;
}

static Group *group_of(Groups *groups, PyObject *node)
{
    for (size_t i = groups->size; i > 0; i--)
        if (groups->items[i - 1].node == node)
            return &groups->items[i - 1];
    Group *items = realloc(groups->items, (groups->size + 1) * sizeof *items);
    if (items == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    groups->items = items;
    items[groups->size] = (Group){.node = Py_NewRef(node), .wait_s = INFINITY, .next_s = INFINITY};
    return &items[groups->size++];
}

/* domain/rhythm.py: margin_field. */
static size_t write_margin(uint8_t *to, double wait_s)
{
    if (wait_s <= 0 || wait_s * 1000 + 1 >= MARGIN_MS_END)
        return 0;
    to[0] = KEY_MARGIN;
    return (size_t)(put_varint(to + 1, (uint64_t)(wait_s * 1000) + 1) - to);
}

static int append_input(Group *group, PyObject *seat, const uint8_t *fields, size_t size,
                        double wait_s)
{
    uint8_t margin[1 + VARINT_BYTES_MAX];
    size_t seat_size = (size_t)PyBytes_GET_SIZE(seat), margin_size = write_margin(margin, wait_s);
    size_t whole = seat_size + size + margin_size;
    uint8_t *to = buffer_room(&group->data, 1 + VARINT_MOST + whole);
    if (to == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    uint8_t *start = to;
    *to++ = KEY_CLIENT_INPUT;
    to = put_varint(to, whole);
    memcpy(to, PyBytes_AS_STRING(seat), seat_size);
    memcpy(to + seat_size, fields, size);
    memcpy(to + seat_size + size, margin, margin_size);
    group->data.size += (size_t)(to - start) + whole;
    group->count++;
    return 0;
}

int has_node(const Armed *armed)
{
    PyObject *held[2] = {NULL, NULL};
    PyObject *node = attribute(armed->room, NODE, &held[0]);
    PyObject *hold = node != NULL ? attribute(armed->room, HOLD, &held[1]) : NULL;
    int has = hold == NULL ? -1 : node != Py_None && hold == Py_None;
    Py_XDECREF(held[0]);
    Py_XDECREF(held[1]);
    return has;
}

int group_input(Groups *groups, const Armed *armed, const uint8_t *fields, size_t size, double now,
                double lead_s)
{
    double wait_s;
    PyObject *held = NULL, *node = attribute(armed->room, NODE, &held);
    Group *group = node != NULL ? group_of(groups, node) : NULL;
    Py_XDECREF(held);
    if (group == NULL || wait_of(armed->room, now, lead_s, &wait_s) < 0
        || append_input(group, armed->seat, fields, size, wait_s) < 0)
        return -1;
    if (wait_s < group->wait_s)
        group->wait_s = wait_s;
    if (wait_s > 0 && wait_s < group->next_s)
        group->next_s = wait_s;
    return set_attribute(armed->room, USED, Py_True);
}

PyObject *groups_as_list(const Groups *groups)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; i < groups->size && list != NULL; i++) {
        const Group *group = &groups->items[i];
        if (group->count == 0)
            continue;
        PyObject *item = Py_BuildValue("(Oy#ndd)", group->node, group->data.data,
                                       (Py_ssize_t)group->data.size, group->count, group->wait_s,
                                       isinf(group->next_s) ? 0.0 : group->next_s);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

void groups_free(Groups *groups)
{
    for (size_t i = 0; i < groups->size; i++) {
        Py_DECREF(groups->items[i].node);
        free(groups->items[i].data.data);
    }
    free(groups->items);
    *groups = (Groups){0};
}
