//! Objects as they are kept in a column: JSON, compressed.

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};

/// An object that is larger as JSON is not read back: nothing that we wrote is.
const MAX_BYTES: u64 = 32 << 20;

/// `None` when it cannot be written as JSON, or is too large.
pub(super) fn pack(object: &impl Serialize) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(object).ok()?;
    if json.len() as u64 > MAX_BYTES {
        return None;
    }
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&json).ok()?;
    encoder.finish().ok()
}

/// `None` when it is not what [`pack`] makes of such an object.
pub(super) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut json = Vec::new();
    DeflateDecoder::new(bytes).take(MAX_BYTES).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_and_forth_and_garbage() {
        let list: Vec<String> = (0..1_000).map(|number| format!("number {number}")).collect();
        let packed = pack(&list).unwrap();
        assert!(packed.len() < 8_000);
        assert_eq!(unpack(&packed), Some(list));
        assert_eq!(unpack::<Vec<String>>(&packed[..packed.len() / 2]), None);
        assert_eq!(unpack::<Vec<u8>>(&[0xff; 40]), None);
    }
}
