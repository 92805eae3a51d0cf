//! OpenTelemetry data to a receiver: collected, batched, sent, and tried again while the receiver cannot take it. The
//! receiver may be down, slow or refuse: what waits for it is bounded, what is given up is counted, and nobody else waits.
//!
//! - [`settings`]: where to, from the configuration and the standard environment ([`environment`]).
//! - [`signal`]: the kinds of data.
//! - [`batch`]: lines and overviews become requests.
//! - [`queue`]: requests that wait, and when the next attempt is due.
//! - [`sender`]: one request on its way, by gRPC or HTTP.

mod batch;
mod environment;
mod queue;
mod run;
mod sender;
mod settings;
mod signal;

pub use run::{destinations, run, wants_live};
pub use settings::Destination;
