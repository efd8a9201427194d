/* Two ends that send a message to and fro over loopback on one CPU, as lean as C can: what a round
 * trip costs is then the kernel's work, and what the probe adds to it can be seen.
 * run(connections, count, size, cpu) -> microseconds of CPU per round trip, both ends. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_BYTES 1024

static double cpu_us(int who) {
    struct rusage used;
    getrusage(who, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 + used.ru_utime.tv_usec +
           used.ru_stime.tv_usec;
}

static void no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void answer(int listener, int connections, int size) {
    char message[MOST_BYTES];
    for (int i = 0; i < connections; i++) {
        int fd = accept(listener, NULL, NULL);
        no_delay(fd);
        while (recv(fd, message, size, MSG_WAITALL) > 0)
            if (send(fd, message, size, MSG_NOSIGNAL) < 0)
                break;
        close(fd);
    }
}

static int ask(const struct sockaddr_in *address, int connections, int count, int size) {
    char message[MOST_BYTES] = {0};
    for (int i = 0; i < connections; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (const struct sockaddr *)address, sizeof *address))
            return -1;
        no_delay(fd);
        for (int j = 0; j < count; j++)
            if (send(fd, message, size, MSG_NOSIGNAL) < 0 ||
                recv(fd, message, size, MSG_WAITALL) != size)
                return -1;
        close(fd);
    }
    return 0;
}

static PyObject *run(PyObject *self, PyObject *arguments) {
    int port, connections, count, size, cpu;
    if (!PyArg_ParseTuple(arguments, "iiiii", &port, &connections, &count, &size, &cpu))
        return NULL;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        close(listener);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    cpu_set_t before, only;
    sched_getaffinity(0, sizeof before, &before);
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    sched_setaffinity(0, sizeof only, &only);
    pid_t child = fork();
    if (!child) {
        answer(listener, connections, size);
        _exit(0);
    }
    close(listener);
    double own = cpu_us(RUSAGE_SELF), others = cpu_us(RUSAGE_CHILDREN);
    int failed = ask(&address, connections, count, size);
    waitpid(child, NULL, 0);
    double spent = cpu_us(RUSAGE_SELF) - own + cpu_us(RUSAGE_CHILDREN) - others;
    sched_setaffinity(0, sizeof before, &before);
    if (failed)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyFloat_FromDouble(spent / ((double)connections * count));
}

static PyMethodDef methods[] = {{"run", run, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_echo", NULL, -1, methods};
PyMODINIT_FUNC PyInit__echo(void) { return PyModule_Create(&module); }
