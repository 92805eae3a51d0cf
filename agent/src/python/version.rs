//! Which version an interpreter is: by what the interpreter itself says, in its memory and its code. File
//! names decide nothing, except that the oldest resort is the minor version in a library's name.

use super::memory::Memory;
use super::offsets::Cookie;
use crate::binaries::Image;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};
use std::fmt;
use std::path::Path;

/// A version of CPython.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    pub major: u8,
    pub minor: u8,
    /// `None` when only the minor version could be told.
    pub micro: Option<u8>,
    /// `PY_VERSION_HEX`, if the interpreter exposes it: what it says beyond the three numbers is whether
    /// this is a pre-release.
    pub hex: Option<u32>,
}

impl Version {
    /// From `PY_VERSION_HEX` (`Include/patchlevel.h`).
    #[must_use]
    pub fn from_hex(hex: u32) -> Self {
        let [major, minor, micro, _] = hex.to_be_bytes();
        Self { major, minor, micro: Some(micro), hex: Some(hex) }
    }

    /// From the start of a text such as `3.9.18 (main, ...)`.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let end = text.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(text.len());
        let (numbers, after) = text.split_at_checked(end)?;
        // What may follow in `PY_VERSION`: its end, the blank of `sys.version`, `a1`, `b1`, `rc1`, `+`.
        if !matches!(after.first(), None | Some(0 | b' ' | b'+' | b'a' | b'b' | b'r')) {
            return None;
        }
        let mut parts = std::str::from_utf8(numbers).ok()?.split('.');
        let major = parts.next()?.parse().ok().filter(|major| matches!(major, 2 | 3))?;
        let minor = parts.next()?.parse().ok()?;
        let micro = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { major, minor, micro: Some(micro), hex: None })
    }

    /// The minor version in a name such as `libpython3.9.so.1.0` or `python3.8`.
    fn from_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy();
        let (_, after) = name.split_once("python")?;
        let mut parts = after.splitn(3, '.');
        let major = parts.next()?.parse().ok().filter(|major| matches!(major, 2 | 3))?;
        let digits: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { major, minor: digits.parse().ok()?, micro: None, hex: None })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if let Some(micro) = self.micro {
            write!(f, ".{micro}")?;
        }
        let [.., release] = self.hex.unwrap_or(0).to_be_bytes();
        let level = match release >> 4 {
            0xa => "a",
            0xb => "b",
            0xc => "rc",
            _ => return Ok(()),
        };
        write!(f, "{level}{}", release & 15)
    }
}

/// The version of the interpreter in `image`, which is mapped with this bias into the process behind
/// `memory`. `runtime` is the address of `_PyRuntime` in the process.
#[must_use]
pub fn detect(
    memory: &dyn Memory,
    image: &Image,
    bias: u64,
    runtime: Option<u64>,
    path: &Path,
) -> Option<Version> {
    let exported = image
        .exported("Py_Version")
        .and_then(|symbol| memory.read_u32(symbol.address.wrapping_add(bias)).ok().map(Version::from_hex));
    exported
        .filter(|version| version.major == 3)
        .or_else(|| {
            let cookie = Cookie::read(memory, runtime?).ok()?;
            u32::try_from(cookie.version).ok().map(Version::from_hex)
        })
        .or_else(|| from_code(memory, image, bias))
        .or_else(|| Version::from_name(path))
}

/// `Py_GetVersion` (`Python/getversion.c`) formats `PY_VERSION` into a static buffer and returns that:
/// whichever constant address it loads, one of them holds the version as text.
fn from_code(memory: &dyn Memory, image: &Image, bias: u64) -> Option<Version> {
    let function = image.exported("Py_GetVersion")?;
    let length = usize::try_from(function.size.clamp(64, 512)).ok()?;
    let code = image.bytes(function.address, length);
    let mut decoder = Decoder::with_ip(64, &code, function.address, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let Some(address) = constant_address(&instruction) else { continue };
        let Ok(text) = memory.read_bytes(address.wrapping_add(bias), 16) else { continue };
        if let Some(version) = Version::from_text(&text) {
            return Some(version);
        }
    }
    None
}

/// The address that an instruction loads into a register: `lea disp(%rip)`, or an immediate in code that is
/// linked to a fixed address.
fn constant_address(instruction: &Instruction) -> Option<u64> {
    match instruction.code() {
        Code::Lea_r64_m if instruction.memory_base() == Register::RIP => {
            Some(instruction.ip_rel_memory_address())
        }
        Code::Mov_r32_imm32 | Code::Mov_r64_imm64 if instruction.op1_kind() != OpKind::Register => {
            Some(instruction.immediate(1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let version = Version::from_text(b"3.9.18\0garbage").unwrap();
        assert_eq!((version.major, version.minor, version.micro), (3, 9, Some(18)));
        assert_eq!(Version::from_text(b"2.7.18 (default").unwrap().to_string(), "2.7.18");
        assert_eq!(Version::from_text(b"3.10.0rc1\0").unwrap().to_string(), "3.10.0");
        for text in
            [&b"4.1.2\0"[..], b"3.9", b"3.9.", b"3.9.1.1\0", b"3.999.1\0", b"", b"%.80s (%.80s)", b"3.9.1x"]
        {
            assert_eq!(Version::from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn hex() {
        assert_eq!(Version::from_hex(0x030b_07f0).to_string(), "3.11.7");
        assert_eq!(Version::from_hex(0x030f_00b1).to_string(), "3.15.0b1");
        assert_eq!(Version::from_hex(0x030f_00c2).to_string(), "3.15.0rc2");
    }

    #[test]
    fn names() {
        let version = Version::from_name(Path::new("/usr/lib/libpython3.9.so.1.0")).unwrap();
        assert_eq!((version.minor, version.micro), (9, None));
        assert_eq!(Version::from_name(Path::new("/usr/bin/python3.11")).unwrap().to_string(), "3.11");
        assert_eq!(Version::from_name(Path::new("/usr/bin/python")), None);
        assert_eq!(Version::from_name(Path::new("/usr/lib/libc.so.6")), None);
    }
}
