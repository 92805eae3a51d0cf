//! Which commands there are, and where their first key is (`redis.io/commands`, Redis 7.0). A command that is
//! not known is called by its name, and nothing of its arguments is kept.

use crate::transactions::clients::key::pattern;

/// Commands whose first argument is a key, or a channel. In order of the alphabet.
const KEY_FIRST: [&str; 153] = [
    "APPEND",
    "BITCOUNT",
    "BITFIELD",
    "BITFIELD_RO",
    "BITPOS",
    "BLMOVE",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZPOPMAX",
    "BZPOPMIN",
    "COPY",
    "DECR",
    "DECRBY",
    "DEL",
    "DUMP",
    "EXISTS",
    "EXPIRE",
    "EXPIREAT",
    "EXPIRETIME",
    "GEOADD",
    "GEODIST",
    "GEOHASH",
    "GEOPOS",
    "GEORADIUS",
    "GEORADIUSBYMEMBER",
    "GEOSEARCH",
    "GEOSEARCHSTORE",
    "GET",
    "GETBIT",
    "GETDEL",
    "GETEX",
    "GETRANGE",
    "GETSET",
    "HDEL",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HINCRBY",
    "HINCRBYFLOAT",
    "HKEYS",
    "HLEN",
    "HMGET",
    "HMSET",
    "HRANDFIELD",
    "HSCAN",
    "HSET",
    "HSETNX",
    "HSTRLEN",
    "HVALS",
    "INCR",
    "INCRBY",
    "INCRBYFLOAT",
    "LINDEX",
    "LINSERT",
    "LLEN",
    "LMOVE",
    "LPOP",
    "LPOS",
    "LPUSH",
    "LPUSHX",
    "LRANGE",
    "LREM",
    "LSET",
    "LTRIM",
    "MGET",
    "MOVE",
    "MSET",
    "MSETNX",
    "PERSIST",
    "PEXPIRE",
    "PEXPIREAT",
    "PEXPIRETIME",
    "PFADD",
    "PFCOUNT",
    "PFMERGE",
    "PSETEX",
    "PSUBSCRIBE",
    "PTTL",
    "PUBLISH",
    "PUNSUBSCRIBE",
    "RENAME",
    "RENAMENX",
    "RESTORE",
    "RPOP",
    "RPOPLPUSH",
    "RPUSH",
    "RPUSHX",
    "SADD",
    "SCARD",
    "SDIFF",
    "SDIFFSTORE",
    "SET",
    "SETBIT",
    "SETEX",
    "SETNX",
    "SETRANGE",
    "SINTER",
    "SINTERSTORE",
    "SISMEMBER",
    "SMEMBERS",
    "SMISMEMBER",
    "SMOVE",
    "SORT",
    "SORT_RO",
    "SPOP",
    "SPUBLISH",
    "SRANDMEMBER",
    "SREM",
    "SSCAN",
    "SSUBSCRIBE",
    "STRLEN",
    "SUBSCRIBE",
    "SUBSTR",
    "SUNION",
    "SUNIONSTORE",
    "SUNSUBSCRIBE",
    "TOUCH",
    "TTL",
    "TYPE",
    "UNLINK",
    "UNSUBSCRIBE",
    "WATCH",
    "XACK",
    "XADD",
    "XAUTOCLAIM",
    "XCLAIM",
    "XDEL",
    "XLEN",
    "XPENDING",
    "XRANGE",
    "XREVRANGE",
    "XSETID",
    "XTRIM",
    "ZADD",
    "ZCARD",
    "ZCOUNT",
    "ZINCRBY",
    "ZLEXCOUNT",
    "ZMSCORE",
    "ZPOPMAX",
    "ZPOPMIN",
    "ZRANDMEMBER",
    "ZRANGE",
    "ZRANGEBYLEX",
    "ZRANGEBYSCORE",
    "ZRANGESTORE",
    "ZRANK",
    "ZREM",
    "ZREMRANGEBYRANK",
    "ZREVRANGE",
    "ZREVRANK",
    "ZSCORE",
];
/// Commands that are named by two words.
const TWO_WORDS: [&str; 16] = [
    "ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "FUNCTION", "LATENCY", "MEMORY", "MODULE",
    "OBJECT", "PUBSUB", "SCRIPT", "SLOWLOG", "XGROUP", "XINFO",
];
/// Commands of a number of keys, which stand behind the script and the number.
const SCRIPTS: [&str; 6] = ["EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "FCALL", "FCALL_RO"];
/// Longest word of a command.
pub const LONGEST_WORD: usize = 32;

/// A command's name, and the pattern of its first key. `arguments` are its first ones, the command first;
/// `None` when it is not like any command.
#[must_use]
pub fn named(arguments: &[Vec<u8>]) -> Option<(String, Option<String>)> {
    let mut name = word(arguments.first()?)?;
    let key_at = if KEY_FIRST.binary_search(&name.as_str()).is_ok() {
        Some(1)
    } else if SCRIPTS.binary_search(&name.as_str()).is_ok() {
        arguments.get(2).is_some_and(|number| number != b"0").then_some(3)
    } else if TWO_WORDS.binary_search(&name.as_str()).is_ok() {
        let with_key = matches!(name.as_str(), "OBJECT" | "XGROUP" | "XINFO") || name == "MEMORY";
        if let Some(second) = arguments.get(1).and_then(|second| word(second)) {
            name.push(' ');
            name.push_str(&second);
        }
        with_key.then_some(2)
    } else {
        None
    };
    let key = key_at.and_then(|at| arguments.get(at));
    Some((name, key.map(|key| pattern(key))))
}

/// In capitals; `None` for what is no word.
fn word(bytes: &[u8]) -> Option<String> {
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let is_word = (1..=LONGEST_WORD).contains(&bytes.len()) && bytes.iter().all(valid);
    (is_word && bytes[0].is_ascii_alphabetic()).then(|| String::from_utf8_lossy(bytes).to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &str) -> Option<(String, Option<String>)> {
        let arguments: Vec<Vec<u8>> = command.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        named(&arguments)
    }

    #[test]
    fn in_order() {
        assert!(KEY_FIRST.is_sorted() && TWO_WORDS.is_sorted() && SCRIPTS.is_sorted());
    }

    #[test]
    fn names_and_keys() {
        for (command, name, key) in [
            ("get user:7", "GET", Some("user:{id}")),
            ("SET k secret", "SET", Some("k")),
            ("CLIENT SETINFO LIB-NAME x", "CLIENT SETINFO", None),
            ("XGROUP CREATE stream:7 g $", "XGROUP CREATE", Some("stream:{id}")),
            ("EVAL body 1 lock:7 secret", "EVAL", Some("lock:{id}")),
            ("EVAL body 0 secret", "EVAL", None),
            ("AUTH default secret", "AUTH", None),
            ("ECHO secret", "ECHO", None),
            ("JSON.GET doc $", "JSON.GET", None),
            ("MULTI", "MULTI", None),
        ] {
            assert_eq!(of(command), Some((name.to_owned(), key.map(str::to_owned))), "{command}");
        }
        assert_eq!(of("secret-value=1"), None);
        assert_eq!(of(""), None);
    }
}
