/* The module `_sections`: an `Encoder` for Python (_sections.pyi). */
#include "_sections.h"

#include <string.h>

static PyObject *written(const Encoder *self, const uint8_t *end)
{
    return PyBytes_FromStringAndSize((char *)self->scratch, end - self->scratch);
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
        PyObject *data = written(self, write_deltas(self, lane));
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
            uint8_t *out = write_deltas(self, lane);
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
            data = written(self, write_keyframes(self, lane));
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

static PyObject *encoder_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *tables;
    Py_ssize_t lanes;
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
    if (lay_out(self, tables) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
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
