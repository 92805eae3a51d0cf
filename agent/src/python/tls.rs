//! Where a compiled function keeps the thread-local word that it returns, by decoding its few instructions.
//! For `PyGILState_GetThisThreadState` of 3.15, which is a load of `_Py_tss_gilstate`; it emulates nothing.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, Register};

/// How the function reaches its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsAccess {
    /// `mov %fs:offset, %rax`: local-exec, in an executable.
    FsRelative { offset: i64 },
    /// `mov %fs:(register)` after the register was loaded from the word at this address: initial-exec.
    FsThroughGot { got: u64 },
    /// `__tls_get_addr(&got)` then a load at `offset` from what it returned: `got` holds two words, the
    /// module's number and the offset of its part.
    TlsGetAddr { got: u64, offset: i64 },
}

/// A function that only loads a TLS word is shorter than this many instructions.
const MAX_INSTRUCTIONS: usize = 32;

/// Decodes `code`, which lies at `address`. `None` for a function of any other shape.
#[must_use]
pub fn returned_tls_word(code: &[u8], address: u64) -> Option<TlsAccess> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut argument = None;
    let mut got_word = None;
    let mut called = None;
    for _ in 0..MAX_INSTRUCTIONS {
        if !decoder.can_decode() {
            return None;
        }
        decoder.decode_out(&mut instruction);
        match instruction.mnemonic() {
            Mnemonic::INVALID | Mnemonic::Ret => return None,
            Mnemonic::Lea
                if instruction.op0_register() == Register::RDI
                    && instruction.memory_base() == Register::RIP =>
            {
                argument = Some(instruction.ip_rel_memory_address());
            }
            Mnemonic::Call => {
                // What is called is `__tls_get_addr`: nothing else is called with the address of a GOT pair
                // before the word is loaded from what it returned. The caller confirms it against memory.
                called = Some(argument.take()?);
            }
            Mnemonic::Mov if instruction.code() == Code::Mov_r64_rm64 => {
                let base = instruction.memory_base();
                let displacement = instruction.memory_displacement64().cast_signed();
                if instruction.segment_prefix() == Register::FS {
                    return match (base, got_word) {
                        (Register::None, _) => Some(TlsAccess::FsRelative { offset: displacement }),
                        (base, Some((register, got))) if base == register && displacement == 0 => {
                            Some(TlsAccess::FsThroughGot { got })
                        }
                        _ => None,
                    };
                }
                if base == Register::RIP {
                    got_word = Some((instruction.op0_register(), instruction.ip_rel_memory_address()));
                }
                if let (Register::RAX, Some(got)) = (base, called) {
                    return Some(TlsAccess::TlsGetAddr { got, offset: displacement });
                }
            }
            _ if instruction.flow_control() != FlowControl::Next => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Debian's python3.15 (3.15.2): `endbr64; mov %fs:-0x28,%rax; ret`.
    #[test]
    fn executable() {
        let code = [0xf3, 0x0f, 0x1e, 0xfa, 0x64, 0x48, 0x8b, 0x04, 0x25, 0xd8, 0xff, 0xff, 0xff, 0xc3];
        assert_eq!(returned_tls_word(&code, 0x42_fa7d), Some(TlsAccess::FsRelative { offset: -0x28 }));
    }

    /// Debian's libpython3.15.so (3.15.2): `lea GOT(%rip),%rdi; call __tls_get_addr; mov 0x28(%rax),%rax`.
    #[test]
    fn library() {
        let code = [
            0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0x48, 0x8d, 0x3d, 0x61, 0xa6, 0x4a, 0x00, 0xe8,
            0x5c, 0x9d, 0xcf, 0xff, 0x5d, 0x48, 0x8b, 0x80, 0x28, 0x00, 0x00, 0x00, 0xc3,
        ];
        assert_eq!(
            returned_tls_word(&code, 0x3c_f120),
            Some(TlsAccess::TlsGetAddr { got: 0x87_9790, offset: 0x28 })
        );
    }

    /// `mov GOT(%rip),%rax; mov %fs:(%rax),%rax; ret`.
    #[test]
    fn initial_exec() {
        let code = [0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0x64, 0x48, 0x8b, 0x00, 0xc3];
        assert_eq!(returned_tls_word(&code, 0x1000), Some(TlsAccess::FsThroughGot { got: 0x1017 }));
    }

    /// Debian's python3.14: a pthread key, no TLS word.
    #[test]
    fn other_functions() {
        let code = [
            0xf3, 0x0f, 0x1e, 0xfa, 0x83, 0x3d, 0x3b, 0x49, 0x77, 0x00, 0x00, 0x74, 0x0a, 0xbf, 0xe0, 0x10,
            0xba, 0x00, 0xe9, 0x7f, 0x2e, 0x11, 0x00, 0x31, 0xc0, 0xc3,
        ];
        assert_eq!(returned_tls_word(&code, 0x42_c79a), None);
        assert_eq!(returned_tls_word(&[], 0), None);
        assert_eq!(returned_tls_word(&[0x90; 200], 0), None);
        for byte in 0..=255 {
            let _ = returned_tls_word(&[byte; 64], u64::MAX - 8);
        }
    }
}
