//! Families of metrics, each registered as it is made.

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub(super) fn build_info(registry: &Registry) -> prometheus::Result<()> {
    let help = "1, labelled with the version.";
    let build = int_gauges_of(registry, "pillion_build_info", help, &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(())
}

pub(super) fn rendered(registry: &Registry) -> String {
    // The encoder refuses only families without a name or of an unknown type.
    TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap_or_default()
}

pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let family = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str) -> prometheus::Result<GaugeVec> {
    let family = GaugeVec::new(Opts::new(name, help), &["provider"])?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

pub(super) fn int_gauges(
    registry: &Registry,
    name: &str,
    help: &str,
) -> prometheus::Result<IntGaugeVec> {
    int_gauges_of(registry, name, help, &["provider"])
}

pub(super) fn int_gauges_of(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let family = HistogramVec::new(options, &["provider"])?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}
