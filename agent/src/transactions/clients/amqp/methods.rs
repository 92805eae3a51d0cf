//! Methods: numbers of class and method, and what stands behind them (specification section 1.8; `basic.nack` and
//! `confirm` are RabbitMQ's).

use super::fields::{Fields, destination, name};

/// What the client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A message follows.
    Publish {
        exchange: Vec<u8>,
        routing_key: Vec<u8>,
    },
    /// An answer follows: the method of the next number, or what [`Told`] has.
    Call {
        name: &'static str,
        destination: Option<String>,
        answer: (u16, u16),
    },
    /// Nobody answers.
    Notice {
        name: &'static str,
        destination: Option<String>,
    },
    /// A delivery is settled.
    Settled {
        name: &'static str,
        delivery: u64,
    },
    /// From its answer on, each message that is published is confirmed.
    Confirm,
    /// The channel, or all of them, begin anew.
    ChannelOpened,
    Other,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A message follows, that was subscribed to.
    Deliver {
        delivery: u64,
        destination: Option<String>,
    },
    /// A message follows, that was asked for.
    Got {
        delivery: u64,
        destination: Option<String>,
    },
    GotNothing,
    /// A message that could not be routed follows.
    Returned {
        code: u16,
        exchange: Vec<u8>,
        routing_key: Vec<u8>,
    },
    /// Messages up to this one, or this one, are taken, or not.
    Confirmed {
        delivery: u64,
        multiple: bool,
        taken: bool,
    },
    ChannelClosed {
        code: u16,
    },
    ConnectionClosed {
        code: u16,
    },
    /// Anything else.
    Method {
        class: u16,
        method: u16,
    },
}

/// `None` for what is no method.
#[must_use]
pub fn asked(payload: &[u8]) -> Option<Asked> {
    let mut fields = Fields(payload);
    let number = (fields.short()?, fields.short()?);
    let call = |name, destination, no_wait: bool| match no_wait {
        true => Asked::Notice { name, destination },
        false => Asked::Call { name, destination, answer: (number.0, number.1 + 1) },
    };
    Some(match number {
        (20, 10) => Asked::ChannelOpened,
        (40, 10) => {
            let exchange = named(&mut fields)?;
            fields.short_string()?;
            call("declare", exchange, fields.octet()? & 0b1_0000 != 0)
        }
        (40, 20) => call("delete", named(&mut fields)?, fields.octet()? & 0b10 != 0),
        (50, 10) => call("declare", named(&mut fields)?, fields.octet()? & 0b1_0000 != 0),
        (50, 20) => {
            let queue = named(&mut fields)?;
            fields.short_string()?;
            fields.short_string()?;
            call("bind", queue, fields.octet()? & 1 != 0)
        }
        (50, 30) => call("purge", named(&mut fields)?, fields.octet()? & 1 != 0),
        (50, 40) => call("delete", named(&mut fields)?, fields.octet()? & 0b100 != 0),
        (50, 50) => call("unbind", named(&mut fields)?, false),
        (60, 20) => {
            let queue = named(&mut fields)?;
            fields.short_string()?;
            call("consume", queue, fields.octet()? & 0b1000 != 0)
        }
        (60, 40) => {
            fields.short()?;
            let (exchange, routing_key) = (fields.short_string()?, fields.short_string()?);
            Asked::Publish { exchange: exchange.to_vec(), routing_key: routing_key.to_vec() }
        }
        (60, 70) => Asked::Call { name: "get", destination: named(&mut fields)?, answer: (60, 71) },
        (60, 80) => Asked::Settled { name: "ack", delivery: fields.longlong()? },
        (60, 90) => Asked::Settled { name: "reject", delivery: fields.longlong()? },
        (60, 120) => Asked::Settled { name: "nack", delivery: fields.longlong()? },
        (85, 10) => Asked::Confirm,
        (90, 20) => call("commit", None, false),
        (90, 30) => call("rollback", None, false),
        (10 | 20 | 30 | 40 | 50 | 60 | 85 | 90, _) => Asked::Other,
        _ => return None,
    })
}

/// As [`asked`].
#[must_use]
pub fn told(payload: &[u8]) -> Option<Told> {
    let mut fields = Fields(payload);
    let (class, method) = (fields.short()?, fields.short()?);
    Some(match (class, method) {
        (60, 60) => {
            fields.short_string()?;
            delivered(&mut fields, |delivery, destination| Told::Deliver { delivery, destination })?
        }
        (60, 71) => delivered(&mut fields, |delivery, destination| Told::Got { delivery, destination })?,
        (60, 72) => Told::GotNothing,
        (60, 50) => {
            let code = fields.short()?;
            fields.short_string()?;
            let (exchange, routing_key) = (fields.short_string()?, fields.short_string()?);
            Told::Returned { code, exchange: exchange.to_vec(), routing_key: routing_key.to_vec() }
        }
        (60, 80 | 120) => Told::Confirmed {
            delivery: fields.longlong()?,
            multiple: fields.octet()? & 1 != 0,
            taken: method == 80,
        },
        (20, 40) => Told::ChannelClosed { code: fields.short()? },
        (10, 50) => Told::ConnectionClosed { code: fields.short()? },
        (10 | 20 | 30 | 40 | 50 | 60 | 85 | 90, _) => Told::Method { class, method },
        _ => return None,
    })
}

/// A reserved field, and the name of a queue or exchange.
fn named(fields: &mut Fields<'_>) -> Option<Option<String>> {
    fields.short()?;
    fields.short_string().map(name)
}

fn delivered(fields: &mut Fields<'_>, make: impl Fn(u64, Option<String>) -> Told) -> Option<Told> {
    let (delivery, _redelivered) = (fields.longlong()?, fields.octet()?);
    let (exchange, routing_key) = (fields.short_string()?, fields.short_string()?);
    Some(make(delivery, destination(exchange, routing_key)))
}
