//! What the doctor says of a process's TLS libraries: every copy, and how its plaintext is seen.

use super::checks::{Check, Status};
use crate::binaries::Image;
use crate::probes::{TlsFile, TlsFunction, TlsWay, tls_plan};
use crate::targets::LibraryUser;

const SUBJECT: &str = "tls";

/// One check for each copy of a library, by the path that the process knows it by.
pub(super) fn checks(users: &[LibraryUser]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut files = Vec::new();
    for user in users {
        match Image::open(&user.image).and_then(|image| TlsFile::inspect(&image)) {
            Ok(file) => files.push((user, file)),
            Err(error) => checks.push(Check::new(SUBJECT, Status::Note, format!("not looked at: {error}"))),
        }
    }
    let plan = tls_plan(&files.iter().map(|(_, file)| file).collect::<Vec<_>>());
    for (index, (user, file)) in files.iter().enumerate() {
        let of = |wanted: TlsWay| {
            let ways = plan.ways.iter().filter(|(file, _, way)| *file == index && *way == wanted);
            ways.map(|(_, function, _)| *function).collect::<Vec<TlsFunction>>()
        };
        let path = user.path.display().to_string();
        let found = check(&path, &of(TlsWay::Cheap), &of(TlsWay::Stepped), &of(TlsWay::Unseen));
        checks.extend(found.or_else(|| file.holds_library().then(|| idle(&path))));
    }
    checks
}

/// A copy that no file of the process is linked to.
fn idle(path: &str) -> Check {
    Check::new(
        SUBJECT,
        Status::Note,
        format!("{path}: called by no file of this process, so it has no probes"),
    )
}

fn check(
    path: &str,
    cheap: &[TlsFunction],
    stepped: &[TlsFunction],
    unseen: &[TlsFunction],
) -> Option<Check> {
    let names = |functions: &[TlsFunction]| {
        functions.iter().map(|function| function.name()).collect::<Vec<_>>().join(", ")
    };
    let mut said = Vec::new();
    if !cheap.is_empty() {
        said.push(names(cheap));
    }
    if !stepped.is_empty() {
        said.push(format!("{} at instructions that the kernel single-steps", names(stepped)));
    }
    if !unseen.is_empty() {
        said.push(format!("no place for a probe of {}: its plaintext is not seen", names(unseen)));
    }
    let status = if stepped.is_empty() && unseen.is_empty() { Status::Ok } else { Status::Note };
    (!said.is_empty()).then(|| Check::new(SUBJECT, status, format!("{path}: {}", said.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_copy() {
        use TlsFunction::{Read, ReadEx, Write, WriteEx};
        let found = check("/lib/libssl.so.3", &[ReadEx, WriteEx], &[], &[]).unwrap();
        assert_eq!(
            (found.status, found.detail.as_str()),
            (Status::Ok, "/lib/libssl.so.3: SSL_read_ex, SSL_write_ex")
        );
        let found = check("/x.so", &[ReadEx], &[Read], &[Write]).unwrap();
        assert_eq!(found.status, Status::Note);
        assert_eq!(
            found.detail,
            "/x.so: SSL_read_ex; SSL_read at instructions that the kernel single-steps; no place for a probe of \
             SSL_write: its plaintext is not seen"
        );
        assert_eq!(check("/x.so", &[], &[], &[]), None);
        let found = idle("/lib/libssl.so.3");
        assert_eq!(found.status, Status::Note);
        assert_eq!(found.detail, "/lib/libssl.so.3: called by no file of this process, so it has no probes");
    }
}
