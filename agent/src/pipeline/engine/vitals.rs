//! How the kernel half fares, and what may be changed of it while it runs.

use super::Engine;
use crate::probes::ProbeError;
use pyapm_model::service::ProbeCost;
use std::collections::BTreeMap;

impl Engine {
    /// Most bytes that one turn took from the ring since the last time this was asked.
    pub(in crate::pipeline) fn ring_peak(&mut self) -> u64 {
        std::mem::take(&mut self.peak_bytes)
    }

    /// Samples at another rate from now on.
    pub(in crate::pipeline) fn resample(&mut self, rate_hz: u32) -> Result<(), ProbeError> {
        if std::mem::replace(&mut self.rate_hz, rate_hz) == rate_hz {
            return Ok(());
        }
        self.probes.as_mut().map_or(Ok(()), |probes| probes.resample(rate_hz))
    }

    /// On-CPU samples per second and CPU.
    pub(in crate::pipeline) fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Has the kernel count what programs cost, or no longer.
    pub(in crate::pipeline) fn count_costs(&mut self, count: bool) -> std::io::Result<()> {
        self.probes.as_mut().map_or(Ok(()), |probes| probes.count_costs(count))
    }

    pub(in crate::pipeline) fn costs(&self) -> BTreeMap<String, ProbeCost> {
        let costs = self.probes.as_ref().map(crate::probes::Probes::costs).unwrap_or_default();
        costs.into_iter().map(|(name, hits, total_ns)| (name, ProbeCost { hits, total_ns })).collect()
    }
}
