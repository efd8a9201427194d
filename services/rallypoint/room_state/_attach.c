/* What an Attach carries most, in C: inputs out of requests, frames into responses (wire.md §7). */
#include "_attach.h"

static PyMethodDef functions[] = {
    {"join_frames", join_frames, METH_O, "The frames of an AttachResponse."},
    {"join_rows", join_rows, METH_VARARGS, "The same for rooms in step: rows, ticks, deltas."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    PyObject *inputs = PyImport_ImportModule("rallypoint.games._inputs"); /* makes the capsule */
    if (inputs == NULL)
        return -1;
    PyObject *capsule = PyObject_GetAttrString(inputs, "_capi");
    Py_DECREF(inputs);
    rings_api = capsule == NULL ? NULL : PyCapsule_GetPointer(capsule, INPUTS_CAPSULE);
    Py_XDECREF(capsule);
    PyTypeObject *doors_type = NULL;
    door_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &door_spec, NULL);
    if (door_type != NULL)
        doors_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &doors_spec, NULL);
    int failed = rings_api == NULL || doors_type == NULL || PyModule_AddType(module, door_type) < 0
                 || PyModule_AddType(module, doors_type) < 0;
    Py_XDECREF(doors_type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "rallypoint.room_state._attach",
    .m_doc = "Reads inputs from requests, writes frames into responses.",
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__attach(void) { return PyModuleDef_Init(&module_def); }
