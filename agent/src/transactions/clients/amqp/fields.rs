//! Fields of methods and properties (specification section 4.2.5; tables as RabbitMQ reads them).

use crate::transactions::clients::key;

/// Entries of a table that are looked at.
const MOST_ENTRIES: usize = 128;
/// Longest number of a message that is kept.
const LONGEST_ID: usize = 255;

/// Takes fields from the front. Each is `None` where the bytes end before it does.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn octet(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    pub fn short(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    pub fn long(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub fn longlong(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    pub fn short_string(&mut self) -> Option<&'a [u8]> {
        let length = self.octet()?;
        self.take(usize::from(length))
    }

    fn long_string(&mut self) -> Option<&'a [u8]> {
        let length = self.long()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// One value of a table, behind its key; its bytes if it is a string.
    fn value(&mut self) -> Option<Option<&'a [u8]>> {
        let size = match self.octet()? {
            b'S' | b'x' => return self.long_string().map(Some),
            b'A' | b'F' => {
                self.long_string()?;
                return Some(None);
            }
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'u' | b'U' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            _ => return None,
        };
        self.take(size).map(|_| None)
    }
}

/// A name as it is shown, without what makes names many.
#[must_use]
pub fn name(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| key::pattern(bytes))
}

/// The exchange and the routing key; of the exchange without a name the latter is the queue.
#[must_use]
pub fn destination(exchange: &[u8], routing_key: &[u8]) -> Option<String> {
    match (name(exchange), name(routing_key)) {
        (Some(exchange), Some(routing_key)) => Some(format!("{exchange}:{routing_key}")),
        (exchange, routing_key) => exchange.or(routing_key),
    }
}

/// What the header before a message's body says of it (section 4.2.6.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub bytes: u64,
    /// Of a task of Celery (`task` and `id` among the headers), else the property `message-id`.
    pub id: Option<String>,
}

impl Content {
    /// `None` for what is no such header.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let (_class, _weight, bytes) = (fields.short()?, fields.short()?, fields.longlong()?);
        Some(Self { bytes, id: id(fields) })
    }
}

fn id(mut fields: Fields<'_>) -> Option<String> {
    let flags = fields.short()?;
    let has = |bit: u32| flags & (1 << bit) != 0;
    for bit in [15, 14] {
        if has(bit) {
            fields.short_string()?;
        }
    }
    if has(13) {
        let length = usize::try_from(fields.long()?).ok()?;
        let table = fields.0.get(..length).unwrap_or(fields.0);
        if let Some(task) = task(Fields(table)) {
            return Some(task);
        }
        fields.take(length)?;
    }
    for bit in [12, 11] {
        if has(bit) {
            fields.octet()?;
        }
    }
    for bit in [10, 9, 8] {
        if has(bit) {
            fields.short_string()?;
        }
    }
    if has(7) { text(fields.short_string()?) } else { None }
}

fn task(mut table: Fields<'_>) -> Option<String> {
    let (mut id, mut named) = (None, false);
    for _ in 0..MOST_ENTRIES {
        let key = table.short_string()?;
        match (key, table.value()?) {
            (b"task", Some(name)) => named = !name.is_empty(),
            (b"id", Some(value)) => id = text(value),
            _ => {}
        }
        if named && id.is_some() {
            return id;
        }
    }
    None
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| (1..=LONGEST_ID).contains(&text.len()))?;
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}
