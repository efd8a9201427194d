/* What an encoder is made of: its tables, their columns, and where each lane's state lies. */
#include "_sections.h"

#include <string.h>

#define MOST_LENGTH 5 /* bytes of a length, as a varint */

/* Zeros were sent, and what was seen is a NaN, which also stands for zero. */
void forget_lane(Encoder *self, Py_ssize_t lane)
{
    uint8_t *state = self->state + (size_t)lane * self->lane_size;
    memset(state, 0, self->seen_start);
    memset(state + self->seen_start, 0xFF, self->lane_size - self->seen_start);
}

/* One run (values, columns, width, top, lows, scales) becomes columns. */
static int add_run(Encoder *self, const TableOf *table, PyObject *run, Column *at)
{
    PyObject *values, *lows, *scales;
    Py_ssize_t columns;
    unsigned char width;
    double top;
    if (!PyArg_ParseTuple(run, "OnbdO!O!", &values, &columns, &width, &top, &PyTuple_Type, &lows,
                          &PyTuple_Type, &scales))
        return -1;
    Py_buffer *buffer = self->buffers + self->held;
    if (PyObject_GetBuffer(values, buffer, PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    self->held++;
    size_t item = top > 0 ? sizeof(double) : width;
    size_t whole = (size_t)columns * (size_t)self->lanes * table->rows * item;
    int bounded = top <= 0 || (PyTuple_GET_SIZE(lows) == columns && PyTuple_GET_SIZE(scales) == columns);
    if ((size_t)buffer->len != whole || !bounded || (width != 1 && width != 2 && width != 4)) {
        PyErr_SetString(PyExc_ValueError, "a run does not fit its table");
        return -1;
    }
    for (Py_ssize_t place = 0; place < columns; place++, at++) {
        at->stride = table->rows * item;
        at->values = (const char *)buffer->buf + (size_t)place * (size_t)self->lanes * at->stride;
        at->size = (size_t)table->rows * width;
        at->width = width;
        at->quantized = top > 0;
        at->top = top;
        if (top > 0) {
            at->low = PyFloat_AsDouble(PyTuple_GET_ITEM(lows, place));
            at->scale = PyFloat_AsDouble(PyTuple_GET_ITEM(scales, place));
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* One table (id, visibility, rows, columns, runs). */
static int add_table(Encoder *self, TableOf *table, PyObject *description)
{
    PyObject *runs;
    if (!PyArg_ParseTuple(description, "bbIIO!", &table->id, &table->visibility, &table->rows,
                          &table->columns, &PyList_Type, &runs))
        return -1;
    table->first = (uint32_t)self->columns;
    table->row_mask = (table->rows + 7) / 8;
    table->column_mask = (table->columns + 7) / 8;
    Column *columns = PyMem_Realloc(self->column, ((size_t)self->columns + table->columns) * sizeof(Column));
    if (columns == NULL && table->columns) {
        PyErr_NoMemory();
        return -1;
    }
    self->column = columns;
    memset(columns + self->columns, 0, table->columns * sizeof(Column));
    uint32_t found = 0;
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(runs); place++) {
        PyObject *run = PyList_GET_ITEM(runs, place);
        Py_ssize_t count = PyTuple_Check(run) && PyTuple_GET_SIZE(run) > 1
                               ? PyNumber_AsSsize_t(PyTuple_GET_ITEM(run, 1), NULL)
                               : -1;
        if (count < 0 || found + (size_t)count > table->columns) {
            PyErr_SetString(PyExc_ValueError, "runs and columns of a table differ");
            return -1;
        }
        if (add_run(self, table, run, columns + self->columns + found) < 0)
            return -1;
        found += (uint32_t)count;
    }
    if (found != table->columns) {
        PyErr_SetString(PyExc_ValueError, "runs and columns of a table differ");
        return -1;
    }
    self->columns += table->columns;
    return 0;
}

/* Where each column's state lies, and how much scratch the longest frame needs. */
static int place_state(Encoder *self)
{
    size_t at = 0, column_most = 0;
    for (Py_ssize_t place = 0; place < self->columns; place++) {
        self->column[place].sent_at = at;
        at += self->column[place].size;
        if (self->column[place].size > column_most)
            column_most = self->column[place].size;
    }
    self->seen_start = at = (at + 7) / 8 * 8;
    for (Py_ssize_t place = 0; place < self->columns; place++)
        if (self->column[place].quantized) {
            self->column[place].seen_at = at;
            at += self->column[place].stride;
        }
    self->lane_size = (at + 7) / 8 * 8;
    self->most = 0;
    for (Py_ssize_t place = 0; place < self->tables; place++) {
        const TableOf *table = self->table + place;
        self->most += FIXED_INNER + 1 + 2 * MOST_LENGTH + table->column_mask;
        for (uint32_t column = 0; column < table->columns; column++)
            self->most += table->row_mask + self->column[table->first + column].size;
    }
    self->most = (self->most + 15) / 8 * 8;
    self->state = PyMem_Calloc((size_t)self->lanes + 1, self->lane_size + 1);
    self->scratch = PyMem_Malloc(self->most);
    self->body = PyMem_Malloc(self->most + column_most + 8);
    if (self->state == NULL || self->scratch == NULL || self->body == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t lane = 0; lane < self->lanes; lane++)
        forget_lane(self, lane);
    return 0;
}

int lay_out(Encoder *self, PyObject *tables)
{
    Py_ssize_t runs = 0;
    self->tables = PyList_GET_SIZE(tables);
    for (Py_ssize_t place = 0; place < self->tables; place++) {
        PyObject *table = PyList_GET_ITEM(tables, place);
        if (PyTuple_Check(table) && PyTuple_GET_SIZE(table) == 5)
            runs += PyObject_Length(PyTuple_GET_ITEM(table, 4));
    }
    if (PyErr_Occurred())
        return -1;
    self->table = PyMem_Calloc((size_t)self->tables + 1, sizeof(TableOf));
    self->buffers = PyMem_Calloc((size_t)runs + 1, sizeof(Py_buffer));
    if (self->table == NULL || self->buffers == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t place = 0; place < self->tables; place++)
        if (add_table(self, self->table + place, PyList_GET_ITEM(tables, place)) < 0)
            return -1;
    return place_state(self);
}
