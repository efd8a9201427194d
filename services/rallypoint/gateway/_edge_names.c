/* A class with `__slots__` says where in its objects an attribute lies; asked once for each name,
   this saves the look-up and the call that getattr costs. Any other object is asked as usual. */

#include "_edge_names.h"

#include <structmember.h>

typedef struct {
    PyObject *text;
    PyTypeObject *type; /* the last class asked, held */
    Py_ssize_t offset;  /* 0: it has no such slot */
} Known;

static Known *known_as(enum Name name)
{
    static const char *const names[NAMES] = {"node",     "hold",    "used",  "rhythm",
                                             "seen_at",  "period_s", "full_at", "epoch",
                                             "streams", "unsettled", "full_at"};
    static Known known[NAMES];
    if (known[name].text == NULL)
        known[name].text = PyUnicode_InternFromString(names[name]);
    return known[name].text == NULL ? NULL : &known[name];
}

static Py_ssize_t slot_in(PyTypeObject *type, PyObject *text)
{
    PyObject *found = PyObject_GetAttr((PyObject *)type, text);
    Py_ssize_t offset = 0;
    if (found == NULL) {
        PyErr_Clear();
    } else if (Py_IS_TYPE(found, &PyMemberDescr_Type)) {
        const PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        if (member->type == T_OBJECT_EX && PyDescr_TYPE(found) == type)
            offset = member->offset;
    }
    Py_XDECREF(found);
    return offset;
}

/* Where the object keeps it; NULL when it has to be asked. */
static PyObject **place_in(PyObject *object, Known *known)
{
    PyTypeObject *type = Py_TYPE(object);
    if (known->type != type) {
        known->offset = slot_in(type, known->text);
        PyTypeObject *before = known->type;
        known->type = (PyTypeObject *)Py_NewRef((PyObject *)type);
        Py_XDECREF(before);
    }
    return known->offset == 0 ? NULL : (PyObject **)((char *)object + known->offset);
}

PyObject *peek(PyObject *object, enum Name name)
{
    Known *known = known_as(name);
    if (known == NULL) {
        PyErr_Clear();
        return NULL;
    }
    PyObject **place = place_in(object, known);
    return place == NULL ? NULL : *place;
}

PyObject *attribute(PyObject *object, enum Name name)
{
    Known *known = known_as(name);
    if (known == NULL)
        return NULL;
    PyObject **place = place_in(object, known);
    if (place == NULL || *place == NULL)
        return PyObject_GetAttr(object, known->text);
    return Py_NewRef(*place);
}

int set_attribute(PyObject *object, enum Name name, PyObject *value)
{
    Known *known = known_as(name);
    if (known == NULL)
        return -1;
    PyObject **place = place_in(object, known);
    if (place == NULL)
        return PyObject_SetAttr(object, known->text, value);
    PyObject *before = *place;
    *place = Py_NewRef(value);
    Py_XDECREF(before);
    return 0;
}

int number_of(PyObject *object, enum Name name, double *number)
{
    PyObject *found = attribute(object, name);
    if (found == NULL)
        return -1;
    *number = PyFloat_AsDouble(found);
    Py_DECREF(found);
    return *number == -1.0 && PyErr_Occurred() ? -1 : 0;
}
