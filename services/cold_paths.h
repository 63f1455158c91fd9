/* Included by setup.py into all that mypyc writes: what leads to one of these is an error's way. The C compiler then lays
 * such code aside, and what a call does run lies closer together: the kernel's code is much larger than a processor's
 * cache, and a guest's call walks through a good deal of it. */
#include <Python.h>

#define ERROR_PATH __attribute__((cold))
ERROR_PATH void CPy_AddTraceback(const char *filename, const char *funcname, int line, PyObject *globals);
ERROR_PATH void CPy_TypeErrorTraceback(const char *filename, const char *funcname, int line, PyObject *globals,
                                       const char *expected, PyObject *value);
ERROR_PATH void CPy_TypeError(const char *expected, PyObject *value);
ERROR_PATH void CPy_AttributeError(const char *filename, const char *funcname, const char *classname,
                                   const char *attrname, int line, PyObject *globals);
ERROR_PATH void CPyError_OutOfMemory(void);
