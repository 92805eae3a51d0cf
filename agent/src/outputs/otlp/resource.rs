//! Who speaks: the application as the resource, pyapm as the instrumentation scope.

use super::attributes::Attributes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;

/// The version of the semantic conventions that names are taken from.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

/// What is said of the application beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub host: Option<String>,
    /// Version of the interpreter.
    pub python: Option<String>,
    /// As its runtime numbers it.
    pub container: Option<String>,
    /// Its UID in Kubernetes.
    pub pod: Option<String>,
    /// From configuration and from `OTEL_RESOURCE_ATTRIBUTES`.
    pub attributes: Vec<(String, String)>,
}

pub(super) fn resource(application: &str, about: &About) -> Resource {
    let mut attributes = Attributes::default();
    attributes.text("service.name", Some(application));
    attributes.text("host.name", about.host.as_deref());
    attributes.text("container.id", about.container.as_deref());
    attributes.text("k8s.pod.uid", about.pod.as_deref());
    attributes.text("process.runtime.name", Some("cpython"));
    attributes.text("process.runtime.version", about.python.as_deref());
    attributes.text("telemetry.sdk.name", Some("pyapm"));
    attributes.text("telemetry.sdk.language", Some("python"));
    attributes.text("telemetry.sdk.version", Some(env!("CARGO_PKG_VERSION")));
    for (key, value) in &about.attributes {
        if key != "service.name" {
            attributes.text(key, Some(value));
        }
    }
    Resource { attributes: attributes.0, ..Resource::default() }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "pyapm".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
