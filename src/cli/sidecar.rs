//! The arguments that say what a sidecar is like, of `pillion inject` and `pillion webhook`; a pod's annotations are
//! stronger.

use clap::Args;

use crate::kubernetes::annotations::{SECRETS, secret_files};
use crate::kubernetes::sidecar::{Mode, SecretFiles, Sidecar};

/// What a sidecar is like where its pod does not say otherwise.
#[derive(Debug, Args)]
#[command(next_help_heading = "The sidecar, where a pod's annotations say nothing else")]
pub(super) struct SidecarArguments {
    /// The image
    #[arg(long, default_value_t = Sidecar::default().image)]
    image: String,
    /// When the image is pulled: Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY", default_value_t = Sidecar::default().image_pull_policy)]
    image_pull_policy: String,
    /// A native sidecar, or a container beside the app for clusters before 1.29
    #[arg(long, value_enum, default_value_t = Sidecar::default().mode)]
    mode: Mode,
    /// The ConfigMap with proxy.toml
    #[arg(long, value_name = "CONFIGMAP", default_value_t = Sidecar::default().config)]
    config_map: String,
    /// A ConfigMap whose entries become environment variables
    #[arg(long, value_name = "CONFIGMAP")]
    env: Option<String>,
    /// A Secret whose keys become files in /run/secrets/NAME, or in /run/secrets/DIRECTORY; may be repeated
    #[arg(long = "secret", value_name = "[DIRECTORY=]NAME", value_parser = secret)]
    secrets: Vec<SecretFiles>,
    /// CPU that is reserved
    #[arg(long, value_name = "QUANTITY", default_value_t = Sidecar::default().cpu_request)]
    cpu_request: String,
    /// Memory that is reserved
    #[arg(long, value_name = "QUANTITY", default_value_t = Sidecar::default().memory_request)]
    memory_request: String,
    /// Memory above which it is killed
    #[arg(long, value_name = "QUANTITY", default_value_t = Sidecar::default().memory_limit)]
    memory_limit: String,
    /// Where probes and scrapers come to
    #[arg(long, value_name = "PORT", default_value_t = Sidecar::default().admin_port)]
    admin_port: u16,
}

fn secret(entry: &str) -> Result<SecretFiles, &'static str> {
    secret_files(entry).ok_or(SECRETS)
}

impl From<SidecarArguments> for Sidecar {
    fn from(arguments: SidecarArguments) -> Self {
        Self {
            image: arguments.image,
            image_pull_policy: arguments.image_pull_policy,
            mode: arguments.mode,
            config: arguments.config_map,
            env: arguments.env,
            secrets: arguments.secrets,
            cpu_request: arguments.cpu_request,
            memory_request: arguments.memory_request,
            memory_limit: arguments.memory_limit,
            admin_port: arguments.admin_port,
        }
    }
}
