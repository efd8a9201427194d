/* A tick's inputs out of the rings and into the columns that games read. */
#include "_inputs_rings.h"

#include <math.h>
#include <string.h>

#define MAX_PER_TICK 3

static int64_t whole(const uint8_t *at, int kind)
{
    switch (kind) {
    case I8: {
        int8_t number;
        memcpy(&number, at, 1);
        return number;
    }
    case I16: {
        int16_t number;
        memcpy(&number, at, 2);
        return number;
    }
    case I32: {
        int32_t number;
        memcpy(&number, at, 4);
        return number;
    }
    case U16:
    case Q16: {
        uint16_t number;
        memcpy(&number, at, 2);
        return number;
    }
    case U32: {
        uint32_t number;
        memcpy(&number, at, 4);
        return number;
    }
    default:
        return *at;
    }
}

/* Make one value off the wire fit for a game and put it into the current column. */
static void sanitize(const Column *column, const uint8_t *record, Py_ssize_t seat)
{
    const uint8_t *from = record + column->offset;
    char *to = (char *)column->current.buf + (size_t)seat * column->item;
    if (column->kind == FLAG) {
        *to = *from != 0;
        ((char *)column->held.buf)[seat] = *to;
    } else if (column->kind == F32) {
        float number, low = (float)column->low, high = (float)column->high;
        memcpy(&number, from, sizeof number);
        if (!isfinite(number))
            number = (float)column->instead;
        number = number < low ? low : number;
        number = number > high ? high : number;
        memcpy(to, &number, sizeof number);
    } else if (column->kind == Q8 || column->kind == Q16) {
        double top = column->kind == Q8 ? 255 : 65535;
        double value = (double)whole(from, column->kind) * column->high / top;
        value = column->low + value;
        memcpy(to, &value, sizeof value);
    } else {
        int64_t number = whole(from, column->kind);
        int64_t low = (int64_t)column->low, high = (int64_t)column->high;
        number = number < low ? low : number;
        number = number > high ? high : number;
        memcpy(to, &number, column->width); /* little endian: the low bytes */
    }
}

static void idle(Rings *self)
{
    if (self->idle_zero) {
        for (Py_ssize_t place = 0; place < self->zeroed; place++)
            memset(self->zero[place].buf, 0, (size_t)self->zero[place].len);
        return;
    }
    for (Py_ssize_t place = 0; place < self->columns; place++)
        if (self->column[place].kind == FLAG)
            memcpy(self->column[place].current.buf, self->column[place].held.buf,
                   (size_t)self->count);
}

/* Count in `seen` how many wait for each seat, in `fresh` how many of them are applied now. */
static void count_waiting(Rings *self)
{
    memset(self->seen, 0, (size_t)self->count * sizeof(int32_t));
    for (size_t place = 0; place < self->waiting; place++)
        self->seen[self->arrival[place].seat]++;
    for (Py_ssize_t seat = 0; seat < self->count; seat++) {
        int32_t waiting = self->seen[seat];
        self->fresh[seat] = waiting < MAX_PER_TICK ? waiting : MAX_PER_TICK;
        self->seen[seat] = waiting > RING ? RING - waiting : 0; /* the rank of its oldest */
    }
}

/* A flag is set when an older input of this tick had it, whatever the newest says. */
static void press(Rings *self, const uint8_t *record, Py_ssize_t seat)
{
    for (Py_ssize_t place = 0; place < self->columns; place++) {
        const Column *column = self->column + place;
        if (column->kind == FLAG && record[column->offset])
            ((char *)column->current.buf)[seat] = 1;
    }
}

static void apply(Rings *self, const uint8_t *record, Py_ssize_t seat, int64_t seq)
{
    self->applied[seat] = seq;
    for (Py_ssize_t place = 0; place < self->columns; place++)
        sanitize(self->column + place, record, seat);
}

/* Apply what is due; `pressed` are the places of inputs that only press, until the newest is in. */
PyObject *take_due(Rings *self, PyObject *Py_UNUSED(ignored))
{
    idle(self);
    if (!self->waiting) {
        memset(self->fresh, 0, (size_t)self->count * sizeof(int64_t));
        Py_RETURN_NONE;
    }
    count_waiting(self);
    size_t kept = 0, older = 0, size = self->size;
    size_t *pressed = PyMem_Malloc(self->waiting * sizeof(size_t));
    if (pressed == NULL)
        return PyErr_NoMemory();
    for (size_t place = 0; place < self->waiting; place++) {
        InputArrival arrived = self->arrival[place];
        int32_t rank = self->seen[arrived.seat]++;
        if (rank >= 0 && rank == self->fresh[arrived.seat] - 1)
            apply(self, self->data + place * size, arrived.seat, arrived.seq);
        else if (rank >= 0 && rank < MAX_PER_TICK)
            pressed[older++] = place;
    }
    for (size_t place = 0; place < older; place++)
        press(self, self->data + pressed[place] * size, self->arrival[pressed[place]].seat);
    PyMem_Free(pressed);
    count_waiting(self);
    for (size_t place = 0; place < self->waiting; place++)
        if (self->seen[self->arrival[place].seat]++ >= MAX_PER_TICK) {
            self->arrival[kept] = self->arrival[place];
            memmove(self->data + kept * size, self->data + place * size, size);
            kept++;
        }
    self->waiting = kept;
    self->limit = (size_t)self->count * RING + kept;
    Py_RETURN_NONE;
}
