/* The module `_inputs`: `Rings` for Python, and for other modules through a capsule (_inputs.h). */
#include "_inputs_rings.h"

#include <string.h>

#define MAX_JUMP 4096

static PyTypeObject *rings_type; /* one per process; the capsule's functions ask for it */

static int wait_for(Rings *self, Py_ssize_t seat, int64_t seq, const uint8_t *data)
{
    if (self->waiting == self->room) {
        size_t room = self->room ? self->room * 2 : 256;
        InputArrival *arrival = PyMem_Realloc(self->arrival, room * sizeof(InputArrival));
        if (arrival != NULL)
            self->arrival = arrival;
        uint8_t *bytes = PyMem_Realloc(self->data, room * self->size + 1);
        if (bytes != NULL)
            self->data = bytes;
        if (arrival == NULL || bytes == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->room = room;
    }
    self->arrival[self->waiting].seat = seat;
    self->arrival[self->waiting].seq = seq;
    memcpy(self->data + self->waiting * self->size, data, self->size);
    self->waiting++;
    return 0;
}

static int offer_inputs(PyObject *rings, Py_ssize_t seat, int64_t first_seq,
                        const InputBytes *inputs, size_t count)
{
    Rings *self = (Rings *)rings;
    int64_t newest = self->newest[seat], last = first_seq + (int64_t)count - 1;
    if (last <= newest || self->waiting >= self->limit)
        return 0;
    if (first_seq > newest + MAX_JUMP || !self->size) {
        self->refused += (long long)count;
        return 0;
    }
    for (size_t place = 0; place < count; place++) {
        int64_t seq = first_seq + (int64_t)place;
        if (seq <= newest)
            continue;
        if (inputs[place].size != self->size)
            self->refused++;
        else if (wait_for(self, seat, seq, inputs[place].data) < 0)
            return -1;
    }
    self->newest[seat] = last;
    return 0;
}

static int is_rings(PyObject *object) { return Py_TYPE(object) == rings_type; }

static int has_seat(PyObject *rings, Py_ssize_t seat)
{
    return seat >= 0 && seat < ((Rings *)rings)->count;
}

static InputsWaiting all_waiting(PyObject *rings)
{
    const Rings *self = (Rings *)rings;
    return (InputsWaiting){self->arrival, self->data, self->waiting, self->size};
}

static void fetch_seat(PyObject *rings, Py_ssize_t seat)
{
    __builtin_prefetch(&((Rings *)rings)->newest[seat], 1);
}

static PyObject *offer(Rings *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3)
        return PyErr_Format(PyExc_TypeError, "seat, first_seq and inputs are needed");
    Py_ssize_t seat = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
    long long first_seq = PyLong_AsLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    if (!has_seat((PyObject *)self, seat))
        return PyErr_Format(PyExc_IndexError, "seat %zd of %zd", seat, self->count);
    PyObject *sequence = PySequence_Fast(args[2], "inputs are a sequence");
    if (sequence == NULL)
        return NULL;
    size_t count = (size_t)PySequence_Fast_GET_SIZE(sequence);
    InputBytes *inputs = PyMem_Malloc((count + 1) * sizeof(InputBytes));
    int failed = inputs == NULL;
    for (size_t place = 0; !failed && place < count; place++) {
        char *data;
        Py_ssize_t size;
        PyObject *item = PySequence_Fast_GET_ITEM(sequence, (Py_ssize_t)place);
        failed = PyBytes_AsStringAndSize(item, &data, &size) < 0;
        if (!failed)
            inputs[place] = (InputBytes){(const uint8_t *)data, (size_t)size};
    }
    if (!failed)
        failed = offer_inputs((PyObject *)self, seat, first_seq, inputs, count) < 0;
    else if (inputs == NULL)
        PyErr_NoMemory();
    PyMem_Free(inputs);
    Py_DECREF(sequence);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static int seat_of(Rings *self, PyObject *argument, Py_ssize_t *seat)
{
    *seat = PyNumber_AsSsize_t(argument, PyExc_OverflowError);
    if (*seat == -1 && PyErr_Occurred())
        return -1;
    if (has_seat((PyObject *)self, *seat))
        return 0;
    PyErr_Format(PyExc_IndexError, "seat %zd of %zd", *seat, self->count);
    return -1;
}

static PyObject *drop(Rings *self, PyObject *argument)
{
    Py_ssize_t seat;
    size_t kept = 0;
    if (seat_of(self, argument, &seat) < 0)
        return NULL;
    for (size_t place = 0; place < self->waiting; place++)
        if (self->arrival[place].seat != seat) {
            self->arrival[kept] = self->arrival[place];
            memmove(self->data + kept * self->size, self->data + place * self->size, self->size);
            kept++;
        }
    if (kept != self->waiting)
        self->limit = (size_t)self->count * RING + kept;
    self->waiting = kept;
    Py_RETURN_NONE;
}

static PyObject *waiting(Rings *self, PyObject *argument)
{
    Py_ssize_t seat;
    if (seat_of(self, argument, &seat) < 0)
        return NULL;
    PyObject *list = PyList_New(0);
    for (size_t place = 0; list != NULL && place < self->waiting; place++) {
        if (self->arrival[place].seat != seat)
            continue;
        const char *data = (const char *)self->data + place * self->size;
        PyObject *item = Py_BuildValue("Ly#", (long long)self->arrival[place].seq, data,
                                       (Py_ssize_t)self->size);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *wait_again(Rings *self, PyObject *args)
{
    Py_ssize_t seat, size;
    long long seq;
    const char *data;
    if (!PyArg_ParseTuple(args, "nLy#", &seat, &seq, &data, &size))
        return NULL;
    if (!has_seat((PyObject *)self, seat) || (size_t)size != self->size)
        return PyErr_Format(PyExc_ValueError, "no such seat, or an input of another size");
    if (wait_for(self, seat, seq, (const uint8_t *)data) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* A writable array of `count` items of `size` bytes. */
static int view(PyObject *array, Py_buffer *buffer, Py_ssize_t count, size_t size)
{
    if (PyObject_GetBuffer(array, buffer, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0)
        return -1;
    if ((size_t)buffer->len == (size_t)count * size)
        return 0;
    PyBuffer_Release(buffer);
    PyErr_SetString(PyExc_ValueError, "an array has another size");
    return -1;
}

/* One column (kind, width, current, held, low, high, instead); `held` is None but for flags. */
static int add_column(Rings *self, PyObject *description)
{
    PyObject *current, *held;
    Column *column = self->column + self->columns;
    if (!PyArg_ParseTuple(description, "inOOddd", &column->kind, &column->width, &current, &held,
                          &column->low, &column->high, &column->instead))
        return -1;
    int quantized = column->kind == Q8 || column->kind == Q16;
    column->item = quantized ? sizeof(double) : column->width;
    column->offset = self->size;
    self->size += column->width;
    if (view(current, &column->current, self->count, column->item) < 0)
        return -1;
    self->columns++;
    if (column->kind == FLAG && view(held, &column->held, self->count, 1) < 0)
        return -1;
    return 0;
}

static int fill(Rings *self, PyObject *columns, PyObject *zeroed)
{
    Py_ssize_t count = PyTuple_GET_SIZE(columns), arrays = PyTuple_GET_SIZE(zeroed);
    self->limit = (size_t)self->count * RING;
    self->seen = PyMem_Calloc((size_t)self->count + 1, sizeof(int32_t));
    self->column = PyMem_Calloc((size_t)count + 1, sizeof(Column));
    self->zero = PyMem_Calloc((size_t)arrays + 1, sizeof(Py_buffer));
    if (self->seen == NULL || self->column == NULL || self->zero == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t place = 0; place < count; place++)
        if (add_column(self, PyTuple_GET_ITEM(columns, place)) < 0)
            return -1;
    for (; self->zeroed < arrays; self->zeroed++)
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(zeroed, self->zeroed), self->zero + self->zeroed,
                               PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0)
            return -1;
    return 0;
}

static PyObject *rings_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *newest, *applied, *fresh, *columns, *zeroed;
    Py_ssize_t count;
    int idle_zero;
    if (!PyArg_ParseTuple(args, "npOOOO!O!", &count, &idle_zero, &newest, &applied, &fresh,
                          &PyTuple_Type, &columns, &PyTuple_Type, &zeroed))
        return NULL;
    Rings *self = (Rings *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->count = count;
    self->idle_zero = idle_zero;
    if (view(newest, &self->newest_of, count, sizeof(int64_t)) < 0 ||
        view(applied, &self->applied_of, count, sizeof(int64_t)) < 0 ||
        view(fresh, &self->fresh_of, count, sizeof(int64_t)) < 0 ||
        fill(self, columns, zeroed) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->newest = self->newest_of.buf;
    self->applied = self->applied_of.buf;
    self->fresh = self->fresh_of.buf;
    return (PyObject *)self;
}

static void rings_dealloc(Rings *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (Py_ssize_t place = 0; place < self->columns; place++) {
        PyBuffer_Release(&self->column[place].current);
        PyBuffer_Release(&self->column[place].held);
    }
    for (Py_ssize_t place = 0; place < self->zeroed; place++)
        PyBuffer_Release(self->zero + place);
    PyBuffer_Release(&self->newest_of);
    PyBuffer_Release(&self->applied_of);
    PyBuffer_Release(&self->fresh_of);
    PyMem_Free(self->column);
    PyMem_Free(self->zero);
    PyMem_Free(self->seen);
    PyMem_Free(self->arrival);
    PyMem_Free(self->data);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *get_refused(Rings *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(self->refused);
}

static PyMethodDef rings_methods[] = {
    {"offer", (PyCFunction)(void (*)(void))offer, METH_FASTCALL, "Keep the inputs that are new."},
    {"take", (PyCFunction)take_due, METH_NOARGS, "Apply what is due this tick."},
    {"drop", (PyCFunction)drop, METH_O, "Forget what waits for a seat."},
    {"waiting", (PyCFunction)waiting, METH_O, "What waits for a seat: (seq, input)."},
    {"wait", (PyCFunction)wait_again, METH_VARARGS, "Have an input wait: seat, seq, input."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef rings_getset[] = {
    {"refused", (getter)get_refused, NULL, "Inputs refused.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot rings_slots[] = {
    {Py_tp_new, rings_new},
    {Py_tp_dealloc, rings_dealloc},
    {Py_tp_methods, rings_methods},
    {Py_tp_getset, rings_getset},
    {Py_tp_doc, "Rings(count, idle_zero, newest, applied, fresh, columns, zeroed)"},
    {0, NULL},
};

static PyType_Spec rings_spec = {
    .name = "rallypoint.games._inputs.Rings",
    .basicsize = sizeof(Rings),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = rings_slots,
};

static InputsApi api = {is_rings, has_seat, offer_inputs, all_waiting, fetch_seat};

static int module_exec(PyObject *module)
{
    rings_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &rings_spec, NULL);
    if (rings_type == NULL || PyModule_AddType(module, rings_type) < 0)
        return -1;
    PyObject *capsule = PyCapsule_New(&api, INPUTS_CAPSULE, NULL);
    if (capsule == NULL || PyModule_AddObject(module, "_capi", capsule) < 0) {
        Py_XDECREF(capsule);
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "rallypoint.games._inputs",
    .m_doc = "Takes inputs in, and into columns.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__inputs(void) { return PyModuleDef_Init(&module_def); }
