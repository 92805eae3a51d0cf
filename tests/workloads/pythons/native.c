/* An extension module without the headers of any Python: what it uses of the interpreter is the same in all versions
 * from 3.2 on (the stable ABI, https://docs.python.org/3/c-api/stable.html), but for the head of an object, which is
 * another where there is no GIL. Built in two parts, so that one can be built without unwind tables and with frame
 * pointers. */
#include <stddef.h>

typedef struct PyObject PyObject;
typedef PyObject *(*PyCFunction)(PyObject *, PyObject *);
typedef struct { const char *name; PyCFunction function; int flags; const char *doc; } PyMethodDef;
typedef struct {
#ifdef FREE_THREADED
    struct { ptrdiff_t owner; unsigned lock, count; ptrdiff_t shared; void *type; void *init; ptrdiff_t index; PyObject *copy; } head;
#else
    struct { ptrdiff_t count; void *type; void *init; ptrdiff_t index; PyObject *copy; } head;
#endif
    const char *name, *doc;
    ptrdiff_t size;
    PyMethodDef *methods;
    void *slots, *traverse, *clear, *free;
} PyModuleDef;
extern PyObject *PyModule_Create2(PyModuleDef *, int);
extern PyObject *PyObject_CallObject(PyObject *, PyObject *);
extern PyObject *PyLong_FromLong(long);

#define APART __attribute__((noinline, noclone))
/* Keeps a call from being the last thing that its function does, which would make it a jump. */
#define STAY __asm__ volatile("")

PyObject *native_middle(PyObject *callback);

#ifdef MIDDLE

APART PyObject *native_inner_middle(PyObject *callback) {
    PyObject *result = PyObject_CallObject(callback, NULL);
    STAY;
    return result;
}

APART PyObject *native_middle(PyObject *callback) {
    PyObject *result = native_inner_middle(callback);
    STAY;
    return result;
}

#else

static volatile unsigned long turns;

APART void native_leaf(void) {
    for (;;) turns++;
}

APART void native_spin(void) {
    native_leaf();
    STAY;
}

/* Aligns its own stack, as code for wide vectors does; with memory of any length on it, its caller's part is found only by
 * the expression of the unwind table. */
APART long native_aligned(long bytes) {
    volatile char wide[64] __attribute__((aligned(64)));
    volatile char *more = __builtin_alloca(bytes);
    wide[0] = more[0] = 1;
    native_spin();
    return wide[0] + more[0];
}

static PyObject *native_spin_method(PyObject *self, PyObject *nothing) {
    native_aligned(100);
    STAY;
    return PyLong_FromLong(0);
}

static PyObject *native_call_method(PyObject *self, PyObject *callback) {
    PyObject *result = native_middle(callback);
    STAY;
    return result;
}

/* METH_NOARGS and METH_O */
static PyMethodDef methods[] = {{"spin", native_spin_method, 4, NULL}, {"call", native_call_method, 8, NULL}, {NULL}};
static PyModuleDef definition = {.head = {.count = 1}, .name = "native", .size = -1, .methods = methods};

PyObject *PyInit_native(void) { return PyModule_Create2(&definition, 3); }

#endif
