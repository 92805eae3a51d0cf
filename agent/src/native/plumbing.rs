//! Functions of the interpreter that do nothing but call: between two Python frames they say nothing that the frames
//! do not say.

/// Beginnings of names. Exported and file-local ones of CPython 3.8 to 3.15 (`Objects/call.c`, `Objects/methodobject.c`,
/// `Objects/descrobject.c`, `Objects/classobject.c`, `Objects/typeobject.c`, `Objects/genobject.c`, `Python/ceval.c`).
const BEGINNINGS: [&str; 23] = [
    "_PyEval_",
    "PyEval_",
    "_TAIL_CALL_",
    "_PyFunction_",
    "function_code_fastcall",
    "_PyObject_Call",
    "_PyObject_FastCall",
    "_PyObject_MakeTpCall",
    "_PyObject_Vectorcall",
    "PyObject_Call",
    "PyObject_Vectorcall",
    "_PyVectorcall_Call",
    "PyVectorcall_Call",
    "_PyCFunction_",
    "cfunction_",
    "PyCFunction_Call",
    "_PyMethodDef_RawFastCall",
    "_PyMethodDescr_",
    "method_vectorcall",
    "method_call",
    "call_function",
    "object_vacall",
    "_PyJIT",
];

/// Whole names: of calls through slots, generators, and code that runs for the interpreter as such.
const NAMES: [&str; 20] = [
    "_Py_CheckFunctionResult",
    "builtin_exec",
    "classmethod_call",
    "gen_iternext",
    "gen_send_ex",
    "gen_send_ex2",
    "PyGen_Send",
    "PyIter_Send",
    "slot_tp_call",
    "slot_tp_init",
    "slot_tp_new",
    "tp_new_wrapper",
    "type_call",
    "vectorcall_method",
    "vectorcall_unbound",
    "wrapper_call",
    "wrap_init",
    "lookup_maybe_method",
    "run_mod",
    "_PyJIT",
];

/// Whether an interpreter's function of this name only calls on.
pub(super) fn is_plumbing(name: &str) -> bool {
    // Compilers name the parts that they make of a function after it: `name.cold`, `name.constprop.0`.
    let name = name.split('.').next().unwrap_or(name);
    NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_work() {
        for name in [
            "PyObject_Call",
            "_PyFunction_Vectorcall",
            "method_vectorcall_O",
            "type_call",
            "gen_send_ex2.cold",
        ] {
            assert!(is_plumbing(name), "{name}");
        }
        for name in [
            "list_sort_impl",
            "PyImport_ImportModuleLevelObject",
            "PyNumber_Add",
            "builtin_sorted",
            "type_new",
        ] {
            assert!(!is_plumbing(name), "{name}");
        }
    }
}
