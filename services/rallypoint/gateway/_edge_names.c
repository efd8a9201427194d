/* A class with `__slots__` says where in its objects an attribute lies; asked once for each name,
   this saves the look-up and the call that getattr costs. Any other object is asked as usual. */

#include "_edge_names.h"

#include <structmember.h>

Known known_names[NAMES];

static PyObject *text_of(enum Name name)
{
    static const char *const names[NAMES] = {"node",     "hold",    "used",  "rhythm",
                                             "seen_at",  "period_s", "full_at", "epoch",
                                             "streams", "unsettled", "full_at"};
    Known *known = &known_names[name];
    if (known->text == NULL)
        known->text = PyUnicode_InternFromString(names[name]);
    return known->text;
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

PyObject **place_anew(PyObject *object, enum Name name)
{
    Known *known = &known_names[name];
    PyTypeObject *type = Py_TYPE(object), *before = known->type;
    PyObject *text = text_of(name);
    if (text == NULL) {
        PyErr_Clear();
        return NULL;
    }
    known->offset = slot_in(type, text);
    known->type = (PyTypeObject *)Py_NewRef((PyObject *)type);
    Py_XDECREF(before);
    return known->offset == 0 ? NULL : (PyObject **)((char *)object + known->offset);
}

PyObject *attribute(PyObject *object, enum Name name, PyObject **held)
{
    PyObject *found = peek(object, name);
    if (found != NULL)
        return found;
    PyObject *text = text_of(name);
    *held = text == NULL ? NULL : PyObject_GetAttr(object, text);
    return *held;
}

int set_attribute(PyObject *object, enum Name name, PyObject *value)
{
    PyObject **place = place_in(object, name);
    if (place == NULL) {
        PyObject *text = text_of(name);
        return text == NULL ? -1 : PyObject_SetAttr(object, text, value);
    }
    PyObject *before = *place;
    if (before == value)
        return 0;
    *place = Py_NewRef(value);
    Py_XDECREF(before);
    return 0;
}

int number_of(PyObject *object, enum Name name, double *number)
{
    PyObject *held = NULL, *found = attribute(object, name, &held);
    if (found == NULL)
        return -1;
    *number = PyFloat_AsDouble(found);
    Py_XDECREF(held);
    return *number == -1.0 && PyErr_Occurred() ? -1 : 0;
}

int set_number(PyObject *object, enum Name name, double number)
{
    PyObject *before = peek(object, name);
    if (before != NULL && PyFloat_CheckExact(before) && Py_REFCNT(before) == 1) {
        /* Nobody else has this number: no other takes its place in memory. */
        ((PyFloatObject *)before)->ob_fval = number;
        return 0;
    }
    PyObject *value = PyFloat_FromDouble(number);
    int failed = value == NULL ? -1 : set_attribute(object, name, value);
    Py_XDECREF(value);
    return failed;
}
