/* Geometry of many things at once: what geometry.py does with numpy, number by number.
 *
 * Every argument is a contiguous array of float64 unless said otherwise; for arrays of another kind
 * or size nothing is done and False comes back. The arithmetic is numpy's in the same
 * order, compiled without contraction, so that both give the same bits.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define MOST_ARRAYS 16

typedef struct {
    Py_buffer views[MOST_ARRAYS];
    int held;
} Arrays;

static void release(Arrays *arrays)
{
    while (arrays->held)
        PyBuffer_Release(&arrays->views[--arrays->held]);
}

/* A contiguous array of items of a size; NULL with an exception set for any other. */
static void *view(Arrays *arrays, PyObject *object, Py_ssize_t item, Py_ssize_t *count)
{
    Py_buffer *buffer = &arrays->views[arrays->held];
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return NULL;
    arrays->held++;
    Py_ssize_t found = buffer->len / item;
    if (buffer->itemsize != item || (*count >= 0 && found != *count)) {
        PyErr_SetString(PyExc_ValueError, "an array has another type or size");
        return NULL;
    }
    *count = found;
    return buffer->buf;
}

static void *writable(Arrays *arrays, PyObject *object, Py_ssize_t item, Py_ssize_t *count)
{
    void *values = view(arrays, object, item, count);
    if (values == NULL || !arrays->views[arrays->held - 1].readonly)
        return values;
    PyErr_SetString(PyExc_ValueError, "an array is read-only");
    return NULL;
}

/* Not for C: numpy knows what to do, or what to say. */
static PyObject *leave(Arrays *arrays)
{
    release(arrays);
    PyErr_Clear();
    Py_RETURN_FALSE;
}

/* push_out(x, y, circle_x, circle_y, reach): the arguments x and y change in place. */
static PyObject *push_out(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Arrays arrays = {.held = 0};
    Py_ssize_t count = -1, circles = -1;
    double *x, *y;
    const double *cx, *cy, *reach;
    if (nargs != 5)
        return PyErr_Format(PyExc_TypeError, "5 arguments are needed");
    if ((x = writable(&arrays, args[0], sizeof(double), &count)) == NULL ||
        (y = writable(&arrays, args[1], sizeof(double), &count)) == NULL ||
        (cx = view(&arrays, args[2], sizeof(double), &circles)) == NULL ||
        (cy = view(&arrays, args[3], sizeof(double), &circles)) == NULL ||
        (reach = view(&arrays, args[4], sizeof(double), &circles)) == NULL) {
        return leave(&arrays);
    }
    for (Py_ssize_t at = 0; at < count; at++) {
        double from_x = x[at], from_y = y[at];
        for (Py_ssize_t circle = 0; circle < circles; circle++) {
            double ex = from_x - cx[circle], ey = from_y - cy[circle];
            double d2 = ex * ex + ey * ey;
            if (d2 < reach[circle] * reach[circle]) {
                double factor = reach[circle] / sqrt(d2);
                x[at] = cx[circle] + ex * factor;
                y[at] = cy[circle] + ey * factor;
            }
        }
    }
    release(&arrays);
    Py_RETURN_TRUE;
}

/* inside(x, y, circle_x, circle_y, reach, out): `out`, of bytes, says who is within any circle. */
static PyObject *inside(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Arrays arrays = {.held = 0};
    Py_ssize_t count = -1, circles = -1;
    const double *x, *y, *cx, *cy, *reach;
    uint8_t *out;
    if (nargs != 6)
        return PyErr_Format(PyExc_TypeError, "6 arguments are needed");
    if ((x = view(&arrays, args[0], sizeof(double), &count)) == NULL ||
        (y = view(&arrays, args[1], sizeof(double), &count)) == NULL ||
        (cx = view(&arrays, args[2], sizeof(double), &circles)) == NULL ||
        (cy = view(&arrays, args[3], sizeof(double), &circles)) == NULL ||
        (reach = view(&arrays, args[4], sizeof(double), &circles)) == NULL ||
        (out = view(&arrays, args[5], 1, &count)) == NULL) {
        return leave(&arrays);
    }
    memset(out, 0, (size_t)count);
    for (Py_ssize_t circle = 0; circle < circles; circle++) {
        double r2 = reach[circle] * reach[circle], ox = cx[circle], oy = cy[circle];
        for (Py_ssize_t at = 0; at < count; at++) {
            double ex = x[at] - ox, ey = y[at] - oy;
            out[at] |= ex * ex + ey * ey < r2;
        }
    }
    release(&arrays);
    Py_RETURN_TRUE;
}

typedef struct {
    const double *x, *y;
    const uint8_t *there;
    Py_ssize_t rows;
    double reach, reach2, length2;
} Targets;

/* The row of `room` that a step from (x, y) meets first, or -1. */
static int64_t meet(const Targets *targets, Py_ssize_t room, Py_ssize_t owner, const double *path)
{
    double from_x = path[0], from_y = path[1], step_x = path[2], step_y = path[3], best = 2.0;
    /* Who is farther away than step and reach together is missed; a little more, for rounding. */
    double far = (sqrt(step_x * step_x + step_y * step_y) + targets->reach) * (1 + 1e-9);
    double far2 = far * far;
    int64_t first = -1;
    for (Py_ssize_t row = 0; row < targets->rows; row++) {
        Py_ssize_t at = room * targets->rows + row;
        double to_x = targets->x[at] - from_x, to_y = targets->y[at] - from_y;
        if (to_x * to_x + to_y * to_y > far2)
            continue;
        double along = (to_x * step_x + to_y * step_y) / targets->length2;
        along = along < 0.0 ? 0.0 : along;
        along = along > 1.0 ? 1.0 : along;
        double off_x = to_x - along * step_x, off_y = to_y - along * step_y;
        int near = off_x * off_x + off_y * off_y < targets->reach2;
        if (near && along < best && row != owner && targets->there[at]) {
            best = along;
            first = row;
        }
    }
    return first;
}

/* first_met(x, y, there, room, owner, from_x, from_y, step_x, step_y, out, rows, reach2, length2):
 * targets are (rooms, rows), `there` of bytes; room, owner and out are of int64, one per step. */
static PyObject *first_met(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Arrays arrays = {.held = 0};
    Py_ssize_t all = -1, count = -1;
    const int64_t *room = NULL, *owner = NULL;
    const double *path[4] = {NULL};
    int64_t *out = NULL;
    Targets targets;
    if (nargs != 13)
        return PyErr_Format(PyExc_TypeError, "13 arguments are needed");
    targets.rows = PyNumber_AsSsize_t(args[10], PyExc_OverflowError);
    targets.reach2 = PyFloat_AsDouble(args[11]);
    targets.length2 = PyFloat_AsDouble(args[12]);
    targets.reach = sqrt(targets.reach2);
    if (PyErr_Occurred())
        return NULL;
    int fine = (targets.x = view(&arrays, args[0], sizeof(double), &all)) != NULL &&
               (targets.y = view(&arrays, args[1], sizeof(double), &all)) != NULL &&
               (targets.there = view(&arrays, args[2], 1, &all)) != NULL &&
               (room = view(&arrays, args[3], sizeof(int64_t), &count)) != NULL &&
               (owner = view(&arrays, args[4], sizeof(int64_t), &count)) != NULL;
    for (int axis = 0; fine && axis < 4; axis++)
        fine = (path[axis] = view(&arrays, args[5 + axis], sizeof(double), &count)) != NULL;
    if (!fine || (out = view(&arrays, args[9], sizeof(int64_t), &count)) == NULL)
        return leave(&arrays);
    for (Py_ssize_t at = 0; at < count; at++) {
        double step[4] = {path[0][at], path[1][at], path[2][at], path[3][at]};
        if (room[at] < 0 || targets.rows < 1 || room[at] >= all / targets.rows)
            return leave(&arrays);
        out[at] = meet(&targets, room[at], owner[at], step);
    }
    release(&arrays);
    Py_RETURN_TRUE;
}

static int add_pair(PyObject *list, Py_ssize_t room, Py_ssize_t one, Py_ssize_t other)
{
    PyObject *found = Py_BuildValue("nnn", room, one, other);
    int failed = found == NULL || PyList_Append(list, found) < 0;
    Py_XDECREF(found);
    return failed ? -1 : 0;
}

/* touching(x, y, other_x, other_y, rows, others, reach2): [(room, row, other row)] within reach. */
static PyObject *touching(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Arrays arrays = {.held = 0};
    Py_ssize_t all = -1, all_others = -1;
    const double *x, *y, *ox, *oy;
    if (nargs != 7)
        return PyErr_Format(PyExc_TypeError, "7 arguments are needed");
    Py_ssize_t rows = PyNumber_AsSsize_t(args[4], PyExc_OverflowError);
    Py_ssize_t others = PyNumber_AsSsize_t(args[5], PyExc_OverflowError);
    double reach2 = PyFloat_AsDouble(args[6]);
    if (PyErr_Occurred())
        return NULL;
    if ((x = view(&arrays, args[0], sizeof(double), &all)) == NULL ||
        (y = view(&arrays, args[1], sizeof(double), &all)) == NULL ||
        (ox = view(&arrays, args[2], sizeof(double), &all_others)) == NULL ||
        (oy = view(&arrays, args[3], sizeof(double), &all_others)) == NULL || rows < 1 ||
        others < 1 || all / rows != all_others / others)
        return leave(&arrays);
    PyObject *list = PyList_New(0);
    for (Py_ssize_t room = 0; list != NULL && room < all / rows; room++)
        for (Py_ssize_t row = 0; list != NULL && row < rows; row++) {
            double from_x = x[room * rows + row], from_y = y[room * rows + row];
            const double *their_x = ox + room * others, *their_y = oy + room * others;
            for (Py_ssize_t other = 0; other < others; other++) {
                double ex = from_x - their_x[other], ey = from_y - their_y[other];
                if (ex * ex + ey * ey < reach2 && add_pair(list, room, row, other) < 0) {
                    Py_CLEAR(list);
                    break;
                }
            }
        }
    release(&arrays);
    return list;
}

/* Ground: [low x, low y, high x, high y], and circles to stay or to end at. */
typedef struct {
    const double *bounds, *x, *y, *reach;
    Py_ssize_t circles;
} Ground;

static int read_ground(Arrays *arrays, PyObject *const *args, Ground *ground)
{
    Py_ssize_t four = 4;
    ground->circles = -1;
    return (ground->bounds = view(arrays, args[0], sizeof(double), &four)) != NULL &&
           (ground->x = view(arrays, args[1], sizeof(double), &ground->circles)) != NULL &&
           (ground->y = view(arrays, args[2], sizeof(double), &ground->circles)) != NULL &&
           (ground->reach = view(arrays, args[3], sizeof(double), &ground->circles)) != NULL;
}

/* NaN stays NaN, as with numpy. */
static double clipped(double value, double low, double high)
{
    value = value < low ? low : value;
    return value > high ? high : value;
}

static void walk_one(const Ground *ground, double dx, double dy, double step, double *x, double *y)
{
    double over = sqrt(dx * dx + dy * dy);
    over = over < 1.0 ? 1.0 : over;
    double to_x = clipped(*x + dx / over * step, ground->bounds[0], ground->bounds[2]);
    double to_y = clipped(*y + dy / over * step, ground->bounds[1], ground->bounds[3]);
    *x = to_x;
    *y = to_y;
    for (Py_ssize_t circle = 0; circle < ground->circles; circle++) {
        double ex = to_x - ground->x[circle], ey = to_y - ground->y[circle];
        double d2 = ex * ex + ey * ey, reach = ground->reach[circle];
        if (d2 < reach * reach) {
            double factor = reach / sqrt(d2);
            *x = ground->x[circle] + ex * factor;
            *y = ground->y[circle] + ey * factor;
        }
    }
}

/* walk(bounds, circle_x, circle_y, reach, x, y, dx, dy, moving, full, step): x and y change in
 * place; dx and dy are of float64 or int8, moving is of bytes. */
static PyObject *walk(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Arrays arrays = {.held = 0};
    Py_ssize_t count = -1;
    Ground ground;
    double *x, *y;
    const uint8_t *moving;
    const void *dx = NULL, *dy = NULL;
    if (nargs != 11)
        return PyErr_Format(PyExc_TypeError, "11 arguments are needed");
    double full = PyFloat_AsDouble(args[9]), step = PyFloat_AsDouble(args[10]);
    if (PyErr_Occurred())
        return NULL;
    if (!read_ground(&arrays, args, &ground) ||
        (x = writable(&arrays, args[4], sizeof(double), &count)) == NULL ||
        (y = writable(&arrays, args[5], sizeof(double), &count)) == NULL ||
        (moving = view(&arrays, args[8], 1, &count)) == NULL)
        return leave(&arrays);
    Py_ssize_t item = sizeof(double);
    if ((dx = view(&arrays, args[6], item, &count)) == NULL) {
        PyErr_Clear(); /* what was held is let go at the end */
        item = 1;
        dx = view(&arrays, args[6], item, &count);
        if (dx == NULL || strcmp(arrays.views[arrays.held - 1].format, "b"))
            return leave(&arrays);
    }
    if ( (dy = view(&arrays, args[7], item, &count)) == NULL)
        return leave(&arrays);
    for (Py_ssize_t at = 0; at < count; at++) {
        if (!moving[at])
            continue;
        if (item == 1)
            walk_one(&ground, ((const int8_t *)dx)[at] / full, ((const int8_t *)dy)[at] / full,
                     step, x + at, y + at);
        else
            walk_one(&ground, ((const double *)dx)[at] / full, ((const double *)dy)[at] / full,
                     step, x + at, y + at);
    }
    release(&arrays);
    Py_RETURN_TRUE;
}

typedef struct {
    double *x, *y;
    const double *step_x, *step_y;
    int32_t *left;
    uint8_t *live;
} Flight;

static int ends_at(const Ground *ground, double x, double y)
{
    int over = x < ground->bounds[0] || x > ground->bounds[2] || y < ground->bounds[1] ||
               y > ground->bounds[3];
    for (Py_ssize_t circle = 0; !over && circle < ground->circles; circle++) {
        double ex = x - ground->x[circle], ey = y - ground->y[circle];
        over = ex * ex + ey * ey < ground->reach[circle] * ground->reach[circle];
    }
    return over;
}

/* Move one thing a step on; whom it meets, or -1. */
static int64_t fly_one(const Flight *flight, const Targets *targets, const Ground *ground,
                       Py_ssize_t at, Py_ssize_t room, Py_ssize_t owner)
{
    double path[4] = {flight->x[at], flight->y[at], flight->step_x[at], flight->step_y[at]};
    double x = flight->x[at] = path[0] + path[2], y = flight->y[at] = path[1] + path[3];
    flight->left[at]--;
    int64_t met = meet(targets, room, owner, path);
    if (met >= 0 || flight->left[at] <= 0 || ends_at(ground, x, y))
        flight->live[at] = 0;
    return met;
}

/* fly(bounds, circle_x, circle_y, reach, x, y, step_x, step_y, left, live, flying, target_x,
 * target_y, there, rows, targets, each, reach2, length2): [(room, row, target met)]. x, y, left (of
 * int32) and live change in place; live, flying and there are of bytes. */
static PyObject *fly(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Arrays arrays = {.held = 0};
    Py_ssize_t count = -1, all = -1;
    Ground ground;
    Flight flight = {NULL};
    Targets targets = {NULL};
    const uint8_t *flying = NULL;
    if (nargs != 19)
        return PyErr_Format(PyExc_TypeError, "19 arguments are needed");
    Py_ssize_t rows = PyNumber_AsSsize_t(args[14], PyExc_OverflowError);
    Py_ssize_t each = PyNumber_AsSsize_t(args[16], PyExc_OverflowError);
    targets.rows = PyNumber_AsSsize_t(args[15], PyExc_OverflowError);
    targets.reach2 = PyFloat_AsDouble(args[17]);
    targets.length2 = PyFloat_AsDouble(args[18]);
    targets.reach = sqrt(targets.reach2);
    if (PyErr_Occurred())
        return NULL;
    int fine = read_ground(&arrays, args, &ground) &&
               (flight.x = writable(&arrays, args[4], sizeof(double), &count)) != NULL &&
               (flight.y = writable(&arrays, args[5], sizeof(double), &count)) != NULL &&
               (flight.step_x = view(&arrays, args[6], sizeof(double), &count)) != NULL &&
               (flight.step_y = view(&arrays, args[7], sizeof(double), &count)) != NULL &&
               (flight.left = writable(&arrays, args[8], sizeof(int32_t), &count)) != NULL &&
               (flight.live = writable(&arrays, args[9], 1, &count)) != NULL &&
               (flying = view(&arrays, args[10], 1, &count)) != NULL &&
               (targets.x = view(&arrays, args[11], sizeof(double), &all)) != NULL &&
               (targets.y = view(&arrays, args[12], sizeof(double), &all)) != NULL &&
               (targets.there = view(&arrays, args[13], 1, &all)) != NULL;
    if (!fine || rows < 1 || targets.rows < 1 || count / rows != all / targets.rows)
        return leave(&arrays);
    PyObject *list = PyList_New(0);
    for (Py_ssize_t at = 0; list != NULL && at < count; at++) {
        if (!flying[at])
            continue;
        Py_ssize_t room = at / rows, row = at % rows;
        int64_t met = fly_one(&flight, &targets, &ground, at, room, each > 0 ? row / each : -1);
        if (met >= 0 && add_pair(list, room, row, (Py_ssize_t)met) < 0)
            Py_CLEAR(list);
    }
    release(&arrays);
    return list;
}

/* Set rows of one flat column to values of the same type: one value each, or one for all. */
static int put_column(Arrays *arrays, PyObject *column, PyObject *given, const int64_t *at,
                      Py_ssize_t rows)
{
    Py_buffer *into = &arrays->views[arrays->held];
    if (PyObject_GetBuffer(column, into, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE) < 0)
        return -1;
    arrays->held++;
    Py_buffer *from = &arrays->views[arrays->held];
    if (PyObject_GetBuffer(given, from, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return -1;
    arrays->held++;
    Py_ssize_t size = into->itemsize, count = into->len / size;
    if (from->itemsize != size || strcmp(from->format, into->format) != 0 ||
        (from->len != size && from->len != rows * size))
        return -1;
    Py_ssize_t step = from->len == size ? 0 : size;
    for (Py_ssize_t row = 0; row < rows; row++) {
        if (at[row] < 0 || at[row] >= count)
            return -1;
        memcpy((char *)into->buf + at[row] * size, (char *)from->buf + row * step, (size_t)size);
    }
    return 0;
}

/* put_rows(at, ((column, values), …)): `at` is of int64. */
static PyObject *put_rows(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Arrays arrays = {.held = 0};
    Py_ssize_t rows = -1;
    if (nargs != 2 || !PyTuple_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "an array and a tuple are needed");
    const int64_t *at = view(&arrays, args[0], sizeof(int64_t), &rows);
    for (Py_ssize_t n = 0; at != NULL && n < PyTuple_GET_SIZE(args[1]); n++) {
        PyObject *pair = PyTuple_GET_ITEM(args[1], n);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 ||
            put_column(&arrays, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1), at, rows) < 0)
            at = NULL;
        while (arrays.held > 1)
            PyBuffer_Release(&arrays.views[--arrays.held]);
    }
    if (at == NULL)
        return leave(&arrays);
    release(&arrays);
    Py_RETURN_TRUE;
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef functions[] = {
    {"push_out", FAST(push_out), METH_FASTCALL, "Put who is in a circle at its edge."},
    {"inside", FAST(inside), METH_FASTCALL, "Say who is in any circle."},
    {"first_met", FAST(first_met), METH_FASTCALL, "Say whom steps meet first."},
    {"walk", FAST(walk), METH_FASTCALL, "Move who walks, within bounds and around circles."},
    {"fly", FAST(fly), METH_FASTCALL, "Move what flies; say whom it meets."},
    {"put_rows", FAST(put_rows), METH_FASTCALL, "Set rows of many columns."},
    {"touching", FAST(touching), METH_FASTCALL, "Say who is near what."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "rallypoint.games._geometry",
    .m_doc = "Geometry of many things at once.",
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__geometry(void) { return PyModuleDef_Init(&module_def); }
