//! Transactions that have ended go out here, over all applications together, because one may be called by another.

use super::{Instance, Lines};
use crate::targets::ApplicationId;
use crate::transactions::{Applications, Joining, Transactions};
use std::collections::BTreeMap;

/// Hands on the transactions that have ended and whose trace is known, or that have waited long enough: `now_ns` is the
/// time up to which events have been taken, `u64::MAX` the end.
pub(super) fn give_out(
    instances: &mut BTreeMap<ApplicationId, Instance>,
    joining: &mut Joining,
    now_ns: u64,
    lines: &mut Lines,
) {
    for (id, instance) in &mut *instances {
        for made in instance.transactions.made() {
            joining.call(*id, made);
        }
        for finished in instance.output.finished.drain(..) {
            joining.ended(*id, finished);
        }
    }
    for (id, finished) in joining.due(now_ns, &mut Each(instances)) {
        if let Some(instance) = instances.get_mut(&id) {
            instance.give_out(finished, lines);
        }
    }
}

struct Each<'a>(&'a mut BTreeMap<ApplicationId, Instance>);

impl Applications for Each<'_> {
    fn transactions(&mut self, application: ApplicationId) -> Option<&mut Transactions> {
        self.0.get_mut(&application).map(|instance| &mut instance.transactions)
    }
}
