/* Frames into AttachResponses (wire.md §7): what `domain/responses.py` does, in one call. */
#include "_attach.h"

#include <string.h>

#define FRAMES_TAG 0x12
#define PART_TAG 0x22

static uint8_t *put(uint8_t *at, PyObject *bytes)
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

static uint8_t *put_frame(uint8_t *at, const InStep *frame)
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

PyObject *join_frames(PyObject *Py_UNUSED(module), PyObject *frames)
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
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(joined);
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

PyObject *join_rows(PyObject *Py_UNUSED(module), PyObject *args)
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
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(joined);
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(rows); place++) {
        read_row(PyList_GET_ITEM(rows, place), ticks, deltas, &frame);
        at = put_frame(at, &frame);
    }
    return joined;
}
