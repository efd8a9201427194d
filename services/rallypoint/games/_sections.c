/* The encoder of sections in C: what encoder.py does with numpy, byte for byte (docs/wire.md §3).
 *
 * A lane is one receiver: a room for SHARED tables, a seat for OWNER ones. Columns are read where
 * they lie, in the arena's arrays, through the buffer protocol: run of columns by lanes by rows.
 * For each lane the encoder keeps the wire numbers sent last, all columns one after the other, and
 * for quantized columns also the doubles they were made from, since most have not changed a bit.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the wire is little endian, and so must the machine be; numpy does it elsewhere"
#endif

#define MOST_VARINT 5
#define OUTER_TAG 0x22
#define TABLE_TAG 0x08
#define VISIBILITY_TAG 0x10
#define INNER_TAG 0x1A
#define FIXED_INNER 5 /* table and visibility with their tags, and the tag of data */
#define BIG 6755399441055744.0 /* 1.5 * 2^52: adding it rounds half to even into the low bits */

typedef struct {
    const char *values; /* the column's first lane */
    size_t stride;      /* bytes from lane to lane in `values` */
    size_t sent_at;     /* offset of the wire numbers in a lane's state */
    size_t seen_at;     /* offset of the doubles they were made from; quantized columns only */
    size_t size;        /* bytes of the wire numbers of all rows */
    double low, scale, top;
    uint8_t width, quantized;
} Column;

typedef struct {
    uint8_t id, visibility;
    uint32_t rows, columns, first; /* `first` is the place of its first column */
    size_t row_mask, column_mask;  /* bytes of one mask */
} TableOf;

typedef struct {
    PyObject_HEAD
    Py_ssize_t lanes, tables, columns, held;
    TableOf *table;
    Column *column;
    Py_buffer *buffers;
    size_t lane_size, seen_start, most; /* `most` is the most bytes a lane's sections can have */
    uint8_t *state, *scratch, *body;
} Encoder;

static uint8_t *put_varint(uint8_t *at, size_t value)
{
    while (value > 0x7F) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static size_t varint_size(size_t value)
{
    size_t size = 1;
    while (value >>= 7)
        size++;
    return size;
}

/* Clamp, round half to even, NaN is 0: codec.quantize. */
static inline uint64_t quantized(double value, const Column *column)
{
    double steps = (value - column->low) * column->scale;
    uint64_t bits;
    steps = steps > 0.0 ? steps : 0.0;
    steps = steps < column->top ? steps : column->top;
    steps += BIG;
    memcpy(&bits, &steps, sizeof bits);
    return bits;
}

static void quantize_16(const Column *column, const double *from, uint16_t *to, uint32_t rows)
{
    for (uint32_t row = 0; row < rows; row++)
        to[row] = (uint16_t)quantized(from[row], column);
}

static void quantize_8(const Column *column, const double *from, uint8_t *to, uint32_t rows)
{
    for (uint32_t row = 0; row < rows; row++)
        to[row] = (uint8_t)quantized(from[row], column);
}

/* Write mask and values of the rows that differ; `old` NULL stands for zeros. The mask is cleared. */
#define WRITE_CHANGED(NAME, TYPE)                                                               \
    static uint8_t *NAME(const uint8_t *now, const uint8_t *old, uint32_t rows, uint8_t *mask,  \
                         uint8_t *at)                                                           \
    {                                                                                           \
        for (uint32_t row = 0; row < rows; row++) {                                             \
            TYPE number, before = 0;                                                            \
            memcpy(&number, now + row * sizeof(TYPE), sizeof(TYPE));                            \
            if (old != NULL)                                                                    \
                memcpy(&before, old + row * sizeof(TYPE), sizeof(TYPE));                        \
            unsigned changed = number != before;                                                \
            memcpy(at, &number, sizeof(TYPE));                                                  \
            at += changed * sizeof(TYPE);                                                       \
            mask[row >> 3] |= (uint8_t)(changed << (row & 7));                                  \
        }                                                                                       \
        return at;                                                                              \
    }
WRITE_CHANGED(write_1, uint8_t)
WRITE_CHANGED(write_2, uint16_t)
WRITE_CHANGED(write_4, uint32_t)

/* One column's mask and values; `at` itself when nothing differs. */
static uint8_t *write_column(const Column *column, const TableOf *table, const uint8_t *now,
                             const uint8_t *old, uint8_t *at)
{
    uint8_t *mask = at, *first = at + table->row_mask, *end;
    memset(mask, 0, table->row_mask);
    if (column->width == 1)
        end = write_1(now, old, table->rows, mask, first);
    else if (column->width == 2)
        end = write_2(now, old, table->rows, mask, first);
    else
        end = write_4(now, old, table->rows, mask, first);
    return end == first ? at : end;
}

/* One column against what was sent last, which becomes what is now. */
static uint8_t *write_delta(Encoder *self, const Column *column, const TableOf *table,
                            Py_ssize_t lane, uint8_t *at)
{
    uint8_t *state = self->state + (size_t)lane * self->lane_size;
    uint8_t *sent = state + column->sent_at;
    const char *source = column->values + (size_t)lane * column->stride;
    uint8_t *end;
    if (!column->quantized) {
        if (memcmp(source, sent, column->size) == 0)
            return at;
        end = write_column(column, table, (const uint8_t *)source, sent, at);
        memcpy(sent, source, column->size);
        return end;
    }
    uint8_t *seen = state + column->seen_at;
    if (memcmp(source, seen, column->stride) == 0)
        return at;
    memcpy(seen, source, column->stride);
    uint8_t *numbers = self->body + self->most; /* behind the body there is room for one column */
    if (column->width == 2)
        quantize_16(column, (const double *)source, (uint16_t *)numbers, table->rows);
    else
        quantize_8(column, (const double *)source, numbers, table->rows);
    end = write_column(column, table, numbers, sent, at);
    memcpy(sent, numbers, column->size);
    return end;
}

static uint8_t *write_keyframe(Encoder *self, const Column *column, const TableOf *table,
                               Py_ssize_t lane, uint8_t *at)
{
    const uint8_t *sent = self->state + (size_t)lane * self->lane_size + column->sent_at;
    return write_column(column, table, sent, NULL, at);
}

typedef uint8_t *(*Writer)(Encoder *, const Column *, const TableOf *, Py_ssize_t, uint8_t *);

/* One table's section, nothing when no column has anything to tell. */
static uint8_t *write_section(Encoder *self, const TableOf *table, Py_ssize_t lane, Writer writer,
                              uint8_t *out)
{
    uint8_t *mask = self->body, *at = mask + table->column_mask, *first = at;
    memset(mask, 0, table->column_mask);
    for (uint32_t place = 0; place < table->columns; place++) {
        uint8_t *end = writer(self, self->column + table->first + place, table, lane, at);
        mask[place >> 3] |= (uint8_t)((end != at) << (place & 7));
        at = end;
    }
    if (at == first)
        return out;
    size_t inner = (size_t)(at - mask);
    *out++ = OUTER_TAG;
    out = put_varint(out, FIXED_INNER + varint_size(inner) + inner);
    *out++ = TABLE_TAG;
    *out++ = table->id;
    *out++ = VISIBILITY_TAG;
    *out++ = table->visibility;
    *out++ = INNER_TAG;
    out = put_varint(out, inner);
    memcpy(out, mask, inner);
    return out + inner;
}

/* All sections of a lane into `scratch`; where they end. */
static uint8_t *write_sections(Encoder *self, Py_ssize_t lane, Writer writer)
{
    uint8_t *out = self->scratch;
    for (Py_ssize_t place = 0; place < self->tables; place++)
        out = write_section(self, self->table + place, lane, writer, out);
    return out;
}

static PyObject *write_lane(Encoder *self, Py_ssize_t lane, Writer writer)
{
    uint8_t *out = write_sections(self, lane, writer);
    return PyBytes_FromStringAndSize((char *)self->scratch, out - self->scratch);
}

static PyObject *deltas(Encoder *self, PyObject *argument)
{
    Py_ssize_t lanes = PyNumber_AsSsize_t(argument, PyExc_OverflowError);
    if (lanes == -1 && PyErr_Occurred())
        return NULL;
    if (lanes < 0 || lanes > self->lanes)
        return PyErr_Format(PyExc_IndexError, "%zd lanes of %zd", lanes, self->lanes);
    PyObject *list = PyList_New(lanes);
    for (Py_ssize_t lane = 0; list != NULL && lane < lanes; lane++) {
        PyObject *data = write_lane(self, lane, write_delta);
        if (data == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, lane, data);
    }
    return list;
}

/* frames(lanes, heads, tail): the deltas, each with its head and the tail before it. */
static PyObject *frames(Encoder *self, PyObject *args)
{
    Py_ssize_t lanes;
    PyObject *heads, *tail;
    if (!PyArg_ParseTuple(args, "nO!S", &lanes, &PyList_Type, &heads, &tail))
        return NULL;
    if (lanes < 0 || lanes > self->lanes || lanes > PyList_GET_SIZE(heads))
        return PyErr_Format(PyExc_IndexError, "%zd lanes of %zd", lanes, self->lanes);
    size_t tail_size = (size_t)PyBytes_GET_SIZE(tail);
    PyObject *list = PyList_New(lanes);
    for (Py_ssize_t lane = 0; list != NULL && lane < lanes; lane++) {
        PyObject *head = PyList_GET_ITEM(heads, lane), *data = NULL;
        if (PyBytes_Check(head)) {
            uint8_t *out = write_sections(self, lane, write_delta);
            size_t size = (size_t)(out - self->scratch), head_size = (size_t)PyBytes_GET_SIZE(head);
            data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(head_size + tail_size + size));
            if (data != NULL) {
                char *at = PyBytes_AS_STRING(data);
                memcpy(at, PyBytes_AS_STRING(head), head_size);
                memcpy(at + head_size, PyBytes_AS_STRING(tail), tail_size);
                memcpy(at + head_size + tail_size, self->scratch, size);
            }
        } else {
            PyErr_SetString(PyExc_TypeError, "heads are bytes");
        }
        if (data == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, lane, data);
    }
    return list;
}

static PyObject *keyframes(Encoder *self, PyObject *argument)
{
    PyObject *lanes = PySequence_Fast(argument, "a sequence of lanes is needed");
    if (lanes == NULL)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(lanes);
    PyObject *list = PyList_New(count);
    for (Py_ssize_t place = 0; list != NULL && place < count; place++) {
        Py_ssize_t lane =
            PyNumber_AsSsize_t(PySequence_Fast_GET_ITEM(lanes, place), PyExc_OverflowError);
        PyObject *data = NULL;
        if (lane >= 0 && lane < self->lanes)
            data = write_lane(self, lane, write_keyframe);
        else if (!PyErr_Occurred())
            PyErr_Format(PyExc_IndexError, "lane %zd of %zd", lane, self->lanes);
        if (data == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, place, data);
    }
    Py_DECREF(lanes);
    return list;
}

/* Zeros were sent, and what was seen is a NaN, which also stands for zero. */
static void forget_lane(Encoder *self, Py_ssize_t lane)
{
    uint8_t *state = self->state + (size_t)lane * self->lane_size;
    memset(state, 0, self->seen_start);
    memset(state + self->seen_start, 0xFF, self->lane_size - self->seen_start);
}

static PyObject *forget(Encoder *self, PyObject *args)
{
    Py_ssize_t start, stop;
    if (!PyArg_ParseTuple(args, "nn", &start, &stop))
        return NULL;
    if (start < 0 || stop > self->lanes)
        return PyErr_Format(PyExc_IndexError, "lanes %zd to %zd", start, stop);
    for (Py_ssize_t lane = start; lane < stop; lane++)
        forget_lane(self, lane);
    Py_RETURN_NONE;
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
        self->most += FIXED_INNER + 1 + 2 * MOST_VARINT + table->column_mask;
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

static PyObject *encoder_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *tables;
    Py_ssize_t lanes, runs = 0;
    if (keywords != NULL && PyDict_GET_SIZE(keywords)) {
        PyErr_SetString(PyExc_TypeError, "no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "nO!", &lanes, &PyList_Type, &tables))
        return NULL;
    Encoder *self = (Encoder *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->lanes = lanes < 0 ? 0 : lanes;
    self->tables = PyList_GET_SIZE(tables);
    for (Py_ssize_t place = 0; place < self->tables; place++) {
        PyObject *table = PyList_GET_ITEM(tables, place);
        if (PyTuple_Check(table) && PyTuple_GET_SIZE(table) == 5)
            runs += PyObject_Length(PyTuple_GET_ITEM(table, 4));
    }
    self->table = PyMem_Calloc((size_t)self->tables + 1, sizeof(TableOf));
    self->buffers = PyMem_Calloc((size_t)runs + 1, sizeof(Py_buffer));
    if (self->table == NULL || self->buffers == NULL) {
        PyErr_NoMemory();
        goto failed;
    }
    for (Py_ssize_t place = 0; place < self->tables; place++)
        if (add_table(self, self->table + place, PyList_GET_ITEM(tables, place)) < 0)
            goto failed;
    if (place_state(self) < 0)
        goto failed;
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

static void encoder_dealloc(Encoder *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (Py_ssize_t place = 0; place < self->held; place++)
        PyBuffer_Release(self->buffers + place);
    PyMem_Free(self->buffers);
    PyMem_Free(self->table);
    PyMem_Free(self->column);
    PyMem_Free(self->state);
    PyMem_Free(self->scratch);
    PyMem_Free(self->body);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef encoder_methods[] = {
    {"deltas", (PyCFunction)deltas, METH_O, "Sections of the first lanes against the call before."},
    {"frames", (PyCFunction)frames, METH_VARARGS, "Deltas with heads and a tail before them."},
    {"keyframes", (PyCFunction)keyframes, METH_O, "Sections of lanes against zeros."},
    {"forget", (PyCFunction)forget, METH_VARARGS, "Start anew with lanes start to stop."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot encoder_slots[] = {
    {Py_tp_new, encoder_new},
    {Py_tp_dealloc, encoder_dealloc},
    {Py_tp_methods, encoder_methods},
    {Py_tp_doc, "Encoder(lanes, tables): tables are (id, visibility, rows, columns, runs)."},
    {0, NULL},
};

static PyType_Spec encoder_spec = {
    .name = "rallypoint.games._sections.Encoder",
    .basicsize = sizeof(Encoder),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = encoder_slots,
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &encoder_spec, NULL);
    int failed = type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "rallypoint.games._sections",
    .m_doc = "Encodes sections of frames.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__sections(void) { return PyModuleDef_Init(&module_def); }
