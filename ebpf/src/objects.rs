//! Where CPython's objects have what every program that reads one needs: x86-64, 3.8 to 3.15 with the GIL
//! (`Include/object.h`, `Include/cpython/object.h`, `Include/cpython/unicodeobject.h`).

/// `PyObject.ob_type`.
pub(crate) const OB_TYPE: u64 = 8;
/// `PyVarObject.ob_size`; of an int from 3.12 on, `lv_tag`.
pub(crate) const OB_SIZE: u64 = 16;
/// `PyTypeObject.tp_name` and `tp_flags`.
pub(crate) const TP_NAME: u64 = 24;
pub(crate) const TP_FLAGS: u64 = 168;
/// `PyASCIIObject.length` and `state`.
pub(crate) const TEXT_LENGTH: u64 = 16;
pub(crate) const TEXT_STATE: u64 = 32;
