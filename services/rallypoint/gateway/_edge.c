/* The module `_edge`. */

#include "_edge.h"

static struct PyModuleDef edge_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_edge",
    .m_doc = "The gateway's hot paths: sending frames, reading inputs.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__edge(void)
{
    static const struct {
        const char *name;
        int number;
    } events[] = {
        {"PYTHON", EVENT_PYTHON}, {"FULL", EVENT_FULL},   {"BROKEN", EVENT_BROKEN},
        {"SHORT", EVENT_SHORT},   {"AGAIN", EVENT_AGAIN},
    };
    PyTypeObject *public[] = {&SenderType, &RoutesType, &DrainType};
    if (PyType_Ready(&FlushType) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&edge_module);
    if (module == NULL)
        return NULL;
    for (size_t i = 0; i < sizeof public / sizeof *public; i++)
        if (PyModule_AddType(module, public[i]) < 0) {
            Py_DECREF(module);
            return NULL;
        }
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (PyModule_AddIntConstant(module, events[i].name, events[i].number) < 0) {
            Py_DECREF(module);
            return NULL;
        }
    return module;
}
