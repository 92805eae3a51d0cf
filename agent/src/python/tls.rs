//! Where a compiled function keeps the thread-local word that it works on, by decoding its first instructions.
//! For `PyGILState_GetThisThreadState` of 3.15, which is a load of `_Py_tss_gilstate`, and for `PyGreenlet_GetCurrent` of
//! the greenlet library; it emulates nothing.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

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

/// Instructions that are looked at for the word: the function says first whether Python ends.
const MAX_BEFORE_USED: usize = 48;

/// A word of a block of thread-local variables that `__tls_get_addr` gives: `got` holds the module's number and the
/// block's offset, `offset` is counted from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsWord {
    pub got: u64,
    pub offset: i64,
}

/// The first thread-local word in `code`, which lies at `address`, that is loaded and compared with 1, or that a function is
/// called on: a C++ object that leads to another, which is made when it is first needed, and has 1 before. Jumps forward are
/// taken to be for what seldom happens, so what stands behind them is read on. `None` for a function of any other shape.
#[must_use]
pub fn lazily_made_tls_word(code: &[u8], address: u64) -> Option<TlsWord> {
    let mut argument = None;
    let mut block = None;
    let mut loaded: Option<(Register, TlsWord)> = None;
    let mut called_on = None;
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE).iter().take(MAX_BEFORE_USED)
    {
        let memory = (instruction.segment_prefix() == Register::None
            && instruction.memory_base() == Register::RAX
            && instruction.memory_index() == Register::None)
            .then_some(block)
            .flatten()
            .map(|got| TlsWord { got, offset: instruction.memory_displacement64().cast_signed() });
        match instruction.code() {
            Code::INVALID => return None,
            Code::Lea_r64_m
                if instruction.op0_register() == Register::RDI
                    && instruction.memory_base() == Register::RIP =>
            {
                argument = Some(instruction.ip_rel_memory_address());
                called_on = None;
                continue;
            }
            Code::Lea_r64_m if instruction.op0_register() == Register::RDI && memory.is_some() => {
                argument = None;
                called_on = memory;
                continue;
            }
            Code::Mov_r64_rm64 if instruction.op1_kind() == OpKind::Memory && memory.is_some() => {
                loaded = memory.map(|word| (instruction.op0_register(), word));
                if instruction.op0_register() == Register::RAX {
                    block = None;
                }
                continue;
            }
            Code::Cmp_rm64_imm8 if instruction.immediate(1) == 1 => match instruction.op0_kind() {
                OpKind::Memory if memory.is_some() => return memory,
                OpKind::Register => {
                    if let Some((register, word)) = loaded
                        && register == instruction.op0_register()
                    {
                        return Some(word);
                    }
                }
                _ => {}
            },
            _ => {}
        }
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                if called_on.is_some() {
                    return called_on;
                }
                // What is called with the address of a pair of words is `__tls_get_addr`; whoever uses the result confirms it
                // against memory.
                block = argument.take();
                loaded = None;
            }
            FlowControl::Next | FlowControl::ConditionalBranch => {
                let writes = |register: Register| {
                    instruction.op0_kind() == OpKind::Register
                        && instruction.op0_register().full_register() == register
                        && !matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push)
                };
                if writes(Register::RAX) {
                    block = None;
                }
                if writes(Register::RDI) {
                    (argument, called_on) = (None, None);
                }
                if loaded.is_some_and(|(register, _)| writes(register)) {
                    loaded = None;
                }
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// greenlet 3.5.6 for Python 3.13, `PyGreenlet_GetCurrent`, whose calls lead to stubs: `lea; call; cmpb $0,(%rax); je; lea;
    /// call; mov 8(%rax),%rbp; cmp $1,%rbp`.
    const GET_CURRENT: [u8; 77] = [
        0x41, 0x57, 0x41, 0x56, 0x41, 0x55, 0x41, 0x54, 0x55, 0x53, 0x48, 0x83, 0xec, 0x68, 0xe8, 0xad, 0x6d,
        0xff, 0xff, 0x85, 0xc0, 0x0f, 0x85, 0xad, 0x02, 0x00, 0x00, 0x48, 0x8d, 0x3d, 0xde, 0xd7, 0x00, 0x00,
        0xe8, 0x59, 0x73, 0xff, 0xff, 0x80, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0f, 0x84, 0x5c, 0x02, 0x00,
        0x00, 0x48, 0x8d, 0x3d, 0xc5, 0xd7, 0x00, 0x00, 0xe8, 0x40, 0x73, 0xff, 0xff, 0x48, 0x8b, 0xa8, 0x08,
        0x00, 0x00, 0x00, 0x48, 0x83, 0xfd, 0x01, 0x0f, 0x84,
    ];

    #[test]
    fn the_state_of_greenlets() {
        let found = lazily_made_tls_word(&GET_CURRENT, 0x1_25e0);
        assert_eq!(found, Some(TlsWord { got: 0x1_fde0, offset: 8 }));
    }

    #[test]
    fn compared_where_it_lies() {
        // lea 0x10(%rip),%rdi; call; cmpq $1,0x18(%rax)
        let code = [0x48, 0x8d, 0x3d, 0x10, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0x48, 0x83, 0x78, 0x18, 0x01];
        assert_eq!(lazily_made_tls_word(&code, 0x1000), Some(TlsWord { got: 0x1017, offset: 0x18 }));
    }

    /// Debian's python3-greenlet (2.0.2): `lea 8(%rax),%rdi; call`.
    #[test]
    fn a_function_is_called_on_it() {
        let code = [
            0x48, 0x8d, 0x3d, 0x2d, 0xe4, 0, 0, 0xe8, 0x10, 0xeb, 0xff, 0xff, 0x48, 0x8d, 0xb8, 0x08, 0, 0,
            0, 0xe8, 0xb4, 0x7d, 0, 0,
        ];
        assert_eq!(lazily_made_tls_word(&code, 0x9a44), Some(TlsWord { got: 0x1_7e78, offset: 8 }));
    }

    #[test]
    fn no_word_that_is_compared() {
        // Compared with 2; overwritten before; of a call without a pair; the function ends before.
        for code in [
            &[0x48, 0x8d, 0x3d, 0x10, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0x48, 0x83, 0x78, 0x18, 0x02][..],
            &[0x48, 0x8d, 0x3d, 0x10, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0x31, 0xc0, 0x48, 0x83, 0x78, 0x18, 0x01],
            &[0xe8, 0, 0, 0, 0, 0x48, 0x83, 0x78, 0x18, 0x01],
            &[0x48, 0x8d, 0x3d, 0x10, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0xc3, 0x48, 0x83, 0x78, 0x18, 0x01],
        ] {
            assert_eq!(lazily_made_tls_word(code, 0x1000), None, "{code:x?}");
        }
        for (at, byte) in GET_CURRENT.iter().enumerate() {
            for change in [0x01, 0x40, 0xff] {
                let mut code = GET_CURRENT;
                code[at] = byte ^ change;
                let _no_panic = lazily_made_tls_word(&code, u64::MAX - 16);
            }
        }
    }

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
