//! Against the running kernel's own BTF, against small ones made by hand, and against garbage.

use super::*;

#[test]
fn facts_that_hold_on_every_kernel_since_5_10() {
    let btf = Btf::running_kernel().unwrap();
    let offset = |structure, path| btf.member(structure, path).unwrap().offset;
    // include/net/sock.h: `sock_common` begins with the address pair, then hash, then the port pair.
    assert_eq!(offset("sock_common", "skc_daddr"), 0);
    assert_eq!(offset("sock_common", "skc_rcv_saddr"), 4);
    assert_eq!(offset("sock_common", "skc_dport"), 12);
    assert_eq!(offset("sock_common", "skc_num"), 14);
    assert_eq!(offset("sock_common", "skc_family"), 16);
    assert_eq!(offset("sock", "__sk_common.skc_num"), 14);
    // include/linux/sched.h: `pid_t pid; pid_t tgid;`
    assert_eq!(offset("task_struct", "pid") + 4, offset("task_struct", "tgid"));
    assert_eq!(btf.member("task_struct", "tgid").unwrap().size, Some(4));
    assert_eq!(
        offset("task_struct", "thread.fsbase"),
        offset("task_struct", "thread") + offset("thread_struct", "fsbase")
    );
    // include/linux/fdtable.h: `unsigned int max_fds; struct file __rcu **fd;`
    assert_eq!((offset("fdtable", "max_fds"), offset("fdtable", "fd")), (0, 8));
    assert_eq!(offset("inode", "i_mode"), 0);
    assert_eq!(btf.member("inode", "i_mode").unwrap().size, Some(2));
    assert_eq!(btf.member("sock_common", "skc_v6_daddr").unwrap().size, Some(16));
    let files = btf.member("task_struct", "files").unwrap();
    assert_eq!(btf.structure_of(files).as_deref(), Some("files_struct"));
    assert!(btf.size_of("task_struct").unwrap() > files.offset);
    assert!(btf.len() > 10_000 && !btf.is_empty());
}

#[test]
fn what_is_not_there() {
    let btf = Btf::running_kernel().unwrap();
    assert!(matches!(btf.member("no_such_struct", "x"), Err(BtfError::NoStruct(_))));
    let error = btf.member("task_struct", "no_such_member").unwrap_err();
    assert_eq!(error.to_string(), "this kernel's `struct task_struct` has no member `no_such_member`");
    assert!(btf.member("task_struct", "pid.x").is_err());
    // task_struct has single-bit members beside one another: some of them begin in the middle of a byte.
    assert!(matches!(btf.member("task_struct", "in_iowait"), Err(BtfError::Bitfield { .. }) | Ok(_)));
}

fn blob(types: &[u32], strings: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    let length = u32::try_from(types.len() * 4).unwrap();
    for word in [24, 0, length, length, u32::try_from(strings.len()).unwrap()] {
        bytes.extend(word.to_le_bytes());
    }
    for word in types {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(strings);
    bytes
}

/// `struct s { int a : 3; int b : 5; struct { const int c; }; }` with the kind flag, by hand.
fn small() -> Vec<u8> {
    let strings = b"\0int\0s\0a\0b\0c\0";
    let types = [
        [1, 1 << 24, 4].as_slice(),
        &[0x0100_0020],
        &[0, 10 << 24, 1],
        &[0, (4 << 24) | 1, 4],
        &[11, 2, 0],
        &[5, (1 << 31) | (4 << 24) | 3, 8],
        &[7, 1, 3 << 24],
        &[9, 1, (5 << 24) | 3],
        &[0, 3, 32],
    ]
    .concat();
    blob(&types, strings)
}

#[test]
fn bitfields_and_anonymous_members() {
    let btf = Btf::parse(small()).unwrap();
    assert_eq!(btf.member("s", "a").unwrap().offset, 0);
    assert!(matches!(btf.member("s", "b"), Err(BtfError::Bitfield { .. })));
    let member = btf.member("s", "c").unwrap();
    assert_eq!((member.offset, member.size), (4, Some(4)));
    assert_eq!(btf.size_of("s"), Some(8));
}

#[test]
fn types_that_contain_themselves() {
    // `struct s { struct s; }` anonymously, and `typedef t t`.
    let btf = Btf::parse(blob(&[1, (4 << 24) | 2, 8, 0, 1, 0, 0, 1, 0, 3, 8 << 24, 2], b"\0s\0t\0")).unwrap();
    assert!(btf.member("s", "x").is_err());
    let looped = Member { offset: 0, size: None, type_id: 2 };
    assert_eq!(btf.structure_of(looped), None);
}

#[test]
fn unknown_kind() {
    let error = Btf::parse(blob(&[0, 25 << 24, 0], b"\0")).unwrap_err();
    assert!(matches!(error, BtfError::UnknownKind(25)));
}

#[test]
fn truncated_and_garbled() {
    let good = small();
    for length in 0..good.len() {
        assert!(Btf::parse(good[..length].to_vec()).is_err(), "{length}");
    }
    // Every byte of a good one replaced by telling values; whatever parses must answer.
    for at in 0..good.len() {
        for value in [0, 1, 2, 3, 4, 5, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            if let Ok(btf) = Btf::parse(bytes) {
                for path in ["a", "b", "c", "c.d", ""] {
                    if let Ok(member) = btf.member("s", path) {
                        let _ = btf.structure_of(member);
                    }
                }
            }
        }
    }
}

#[test]
fn random_bytes_behind_a_header() {
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..20_000 {
        let mut words = [0_u32; 24];
        for word in &mut words {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // Small numbers make valid references, kinds and names likely.
            let small = (seed >> 8) as u32 & 0x1f;
            *word = match seed & 3 {
                0 => small,
                1 => small << 24,
                2 => (small << 24) | ((seed >> 16) as u32 & 7),
                _ => (seed >> 32) as u32,
            };
        }
        if let Ok(btf) = Btf::parse(blob(&words, b"\0a\0b\0c\0")) {
            for structure in ["a", "b", "c"] {
                if let Ok(member) = btf.member(structure, "a.b") {
                    let _ = btf.structure_of(member);
                }
            }
        }
    }
}
