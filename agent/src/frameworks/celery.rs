//! Where a worker of Celery begins and ends each task, in a process that runs them in threads of its own (`--pool threads`,
//! `solo`): the bytecode of `trace_task`, which Celery has made of one code object for all tasks since 4.0, and where its
//! variables lie.
//!
//! No instruction is understood. A line table says where the code of a line begins, which is always an instruction: the
//! first line of the body is where a task begins, and the last line, which gives back what became of it, is where it ends.

use crate::python::{Code, Interpreter, Memory, ObjectError, Objects, may_be_compiled, read_code};
use pyapm_wire::python::ABSENT;
use pyapm_wire::task::TaskSites;

/// What is read of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskCode {
    pub sites: TaskSites,
    /// Addresses of all the instructions in question: the beginning and the ends.
    pub addresses: Vec<u64>,
}

/// Pools that run tasks in threads of the worker's process, one at a time in each.
const POOLS: [&str; 2] = ["celery.concurrency.thread", "celery.concurrency.solo"];
/// `PyCodeObject.co_consts`, up to 3.10 and from 3.11 on, and `co_code`, a bytes object, up to 3.10.
const CONSTANTS: [u64; 2] = [56, 24];
const CODE: u64 = 48;
/// `PyVarObject.ob_size`: of a code object from 3.11 on, its units of two bytes.
const OB_SIZE: u64 = 16;
/// `PyMemberDescrObject.d_member`, and `PyMemberDef.offset` (`Include/descrobject.h`, 3.8 to 3.15).
const MEMBER: u64 = 40;
const MEMBER_OFFSET: u64 = 16;
const MOST_CONSTANTS: usize = 4096;
/// Bytes of bytecode, and ends: a thread has four breakpoints.
const MOST_CODE: u64 = 1 << 16;
const MOST_ENDS: usize = 3;

/// `None` where the process runs no tasks that way, or has not imported what runs them yet.
///
/// # Errors
/// When it cannot be read, or is not understood.
pub fn task_code(
    memory: &dyn Memory,
    interpreter: &Interpreter,
    pid: u32,
) -> Result<Option<TaskCode>, ObjectError> {
    let Some(objects) = Objects::new(memory, &interpreter.offsets, interpreter.version.minor) else {
        return Ok(None);
    };
    let main = objects.main_interpreter(interpreter.runtime_address)?;
    let names = [&["celery.app.trace", "sys"][..], &POOLS].concat();
    let dicts = objects.module_dicts(main, &names)?;
    let [Some(trace), Some(sys), pools @ ..] = dicts.as_slice() else { return Ok(None) };
    if pools.iter().all(Option::is_none) {
        return Ok(None);
    }
    if interpreter.offsets.free_threaded.is_some() || may_be_compiled(pid, interpreter.version, &[]) {
        // Threads have copies of the bytecode, or do not read it.
        return Err(unexpected(*trace, "an interpreter whose threads read one bytecode"));
    }
    let needed = |dict: u64, name: &str, expected| {
        objects.dict_get(dict, name)?.ok_or_else(|| unexpected(dict, expected))
    };
    let builder = needed(*trace, "build_tracer", "a module with `build_tracer`")?;
    let info = needed(*trace, "TraceInfo", "a module with `TraceInfo`")?;
    let number = needed(*sys, "maxsize", "a module with `maxsize`")?;
    let (code, traced) = traced(&objects, objects.function_code(builder)?)?;
    let variable = |name: &str| {
        objects.variable(code, name)?.ok_or_else(|| unexpected(code, "a function with these variables"))
    };
    let (start, length) = bytecode(&objects, code)?;
    let places = places(&traced, length);
    let Some((begin, ends)) = places.filter(|(_, ends)| ends.len() <= MOST_ENDS) else {
        return Err(unexpected(code, "a function of several lines"));
    };
    let sites = TaskSites {
        code,
        begin: start + begin,
        str_type: objects.class_of(memory.read_u64(code + u64::from(interpreter.offsets.code_name))?)?,
        int_type: objects.class_of(number)?,
        info_type: info,
        id: variable("uuid")?,
        headers: variable("request")?,
        info: variable("I")?,
        state: variable("state")?,
        started: objects.variable(code, "time_start")?.unwrap_or(ABSENT),
        info_state: slot(&objects, info, "state")?,
        info_exception: slot(&objects, info, "retval")?,
        text_data: interpreter.offsets.ascii_size,
        compact_keys: objects.layout.compact_keys.into(),
        int_tag: objects.layout.int_tag.into(),
    };
    let addresses = std::iter::once(begin).chain(ends).map(|at| start + at).collect();
    Ok(Some(TaskCode { sites, addresses }))
}

/// The function `trace_task` among the constants of the one that makes it.
fn traced(objects: &Objects<'_>, builder: u64) -> Result<(u64, Code), ObjectError> {
    let [old, new] = CONSTANTS;
    let constants = builder.wrapping_add(if objects.offsets.code_bytecode.is_some() { new } else { old });
    for constant in objects.tuple_items(objects.memory.read_u64(constants)?, MOST_CONSTANTS)? {
        if objects.type_of(constant)?.name == "code" {
            let code = read_code(objects.memory, objects.offsets, constant)?;
            if code.function.rsplit('.').next() == Some("trace_task") {
                return Ok((constant, code));
            }
        }
    }
    Err(unexpected(builder, "a function that makes `trace_task`"))
}

/// Where a code object's bytecode begins, and how many bytes it has.
fn bytecode(objects: &Objects<'_>, code: u64) -> Result<(u64, u64), ObjectError> {
    let word = |at: u64| objects.memory.read_u64(at);
    let (start, length) = match objects.offsets.code_bytecode {
        Some(offset) => (code + u64::from(offset), word(code + OB_SIZE)?.saturating_mul(2)),
        None => {
            let bytes = word(code + CODE)?;
            let data = bytes.wrapping_add(u64::from(objects.offsets.bytes_data));
            (data, word(bytes.wrapping_add(u64::from(objects.offsets.bytes_size)))?)
        }
    };
    if length > MOST_CODE { Err(unexpected(code, "a function of this size")) } else { Ok((start, length)) }
}

/// Where the first line of the body begins, and where its last line does, which may be in more than one place.
fn places(code: &Code, length: u64) -> Option<(u64, Vec<u64>)> {
    let offsets = (0..i32::try_from(length).ok()?).step_by(2);
    let lines: Vec<(i32, Option<u32>)> = offsets.map(|offset| (offset, code.lines.line(offset))).collect();
    let last = lines.iter().filter_map(|(_, line)| *line).max()?;
    // What comes before the body has the line of the `def`.
    let (begin, _) = lines.iter().find(|(_, line)| line.is_some_and(|line| line > code.firstlineno))?;
    let mut before = None;
    let mut ends = Vec::new();
    for (offset, line) in &lines {
        if *line == Some(last) && before != Some(last) {
            ends.push(u64::try_from(*offset).ok()?);
        }
        before = *line;
    }
    Some((u64::try_from(*begin).ok()?, ends))
}

/// Where an object of this class has one of its `__slots__`.
fn slot(objects: &Objects<'_>, class: u64, name: &str) -> Result<u32, ObjectError> {
    const EXPECTED: &str = "a class with slots";
    let descriptor = objects.dict_get(objects.class_dict(class)?, name)?;
    let descriptor = descriptor.ok_or_else(|| unexpected(class, EXPECTED))?;
    if objects.type_of(descriptor)?.name != "member_descriptor" {
        return Err(unexpected(descriptor, EXPECTED));
    }
    let member = objects.memory.read_u64(descriptor.wrapping_add(MEMBER))?;
    let offset = objects.memory.read_u64(member.wrapping_add(MEMBER_OFFSET))?;
    u32::try_from(offset).ok().filter(|offset| *offset != ABSENT).ok_or_else(|| unexpected(class, EXPECTED))
}

fn unexpected(address: u64, expected: &'static str) -> ObjectError {
    ObjectError::Unexpected { address, expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::{LineFormat, LineTable};

    /// Pairs of bytes and steps in lines, as Python 3.10 has them.
    fn code(pairs: &[(u8, i8)]) -> Code {
        let bytes: Vec<u8> = pairs.iter().flat_map(|(bytes, step)| [*bytes, step.cast_unsigned()]).collect();
        Code {
            function: "trace_task".into(),
            file: "trace.py".into(),
            firstlineno: 10,
            identity: 0,
            lines: LineTable::new(LineFormat::Ranges, 10, bytes.into()),
        }
    }

    #[test]
    fn the_body_begins_behind_its_head_and_ends_wherever_its_last_line_does() {
        let function = code(&[(4, 0), (4, 1), (2, -128), (4, 1), (4, -1), (6, 1), (4, 0), (2, -2)]);
        assert_eq!(places(&function, 30), Some((4, vec![10, 18])));
        // All of it on one line.
        assert_eq!(places(&code(&[(20, 0)]), 20), None);
        assert_eq!(places(&code(&[]), 0), None);
        assert_eq!(places(&code(&[(4, -128)]), 1000), None);
    }
}
