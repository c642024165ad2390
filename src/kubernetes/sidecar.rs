//! The container: what stands in a pod's manifest, whoever has put it there.

use serde_json::{Value, json};

/// What may differ from one pod to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sidecar {
    /// The image.
    pub image: String,
    /// When the image is pulled: `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Which kind of container it is.
    pub mode: Mode,
    /// The ConfigMap whose `proxy.toml` it serves.
    pub config: String,
    /// The ConfigMap whose entries are its environment, if there is one.
    pub env: Option<String>,
    /// The Secrets that it finds as files.
    pub secrets: Vec<SecretFiles>,
    /// CPU that is reserved for it, as a Kubernetes quantity. There is no CPU limit: it would only make requests wait.
    pub cpu_request: String,
    /// Memory that is reserved for it, as a Kubernetes quantity.
    pub memory_request: String,
    /// Memory above which it is killed, as a Kubernetes quantity.
    pub memory_limit: String,
    /// Where probes and scrapers find it on the pod's address.
    pub admin_port: u16,
}

/// A Secret, and the directory below `/run/secrets` in which its keys are files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretFiles {
    /// The directory, and the end of the volume's name.
    pub directory: String,
    /// The Secret.
    pub secret: String,
}

/// Which kind of container.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Mode {
    /// A native sidecar: started before the app and stopped after it (Kubernetes 1.29 and later).
    Sidecar,
    /// A container beside the app, which waits for it: for clusters without native sidecars.
    Container,
}

impl Default for Sidecar {
    fn default() -> Self {
        Self {
            image: concat!("pillion:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            mode: Mode::Sidecar,
            config: NAME.to_owned(),
            env: None,
            secrets: Vec::new(),
            cpu_request: "10m".to_owned(),
            memory_request: "24Mi".to_owned(),
            memory_limit: "128Mi".to_owned(),
            admin_port: 9901,
        }
    }
}

impl Sidecar {
    /// The entry of `initContainers`, or of `containers` in the mode of that name. Either way it is the first.
    #[must_use]
    pub fn container(&self) -> Value {
        let mut args = vec![
            "run".to_owned(),
            "--config=/etc/pillion/proxy.toml".to_owned(),
            format!("--admin-port={}", self.admin_port),
        ];
        if self.mode == Mode::Container {
            args.push(DRAIN.to_owned());
        }
        let mut container = json!({
            "name": NAME,
            "image": self.image,
            "imagePullPolicy": self.image_pull_policy,
            "args": args,
            "ports": [{ "name": PORT, "containerPort": self.admin_port, "protocol": "TCP" }],
            // Until the providers that are `warm` have given a token, the app is not started: five minutes at the most.
            "startupProbe": {
                "httpGet": { "path": "/readyz", "port": PORT },
                "periodSeconds": 1,
                "timeoutSeconds": 2,
                "failureThreshold": 300,
            },
            // Says that the process turns, and nothing about providers: a restart would not bring them back.
            "livenessProbe": {
                "httpGet": { "path": "/livez", "port": PORT },
                "periodSeconds": 10,
                "timeoutSeconds": 5,
                "failureThreshold": 6,
            },
            "resources": {
                "requests": { "cpu": self.cpu_request, "memory": self.memory_request },
                "limits": { "memory": self.memory_limit },
            },
            // The restricted Pod Security Standard, and a root that cannot be written to.
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
                "readOnlyRootFilesystem": true,
                "runAsGroup": USER,
                "runAsNonRoot": true,
                "runAsUser": USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": self.mounts(),
        });
        let mut set = |field: &str, value: Value| {
            if let Some(fields) = container.as_object_mut() {
                fields.insert(field.to_owned(), value);
            }
        };
        match self.mode {
            Mode::Sidecar => set("restartPolicy", json!("Always")),
            // The kubelet starts the next container when the hook of the one before has ended.
            Mode::Container => {
                let wait = [
                    "/pillion",
                    "wait",
                    &format!("--admin=127.0.0.1:{}", self.admin_port),
                ];
                let hook = json!({ "postStart": { "exec": { "command": wait } } });
                set("lifecycle", hook);
            }
        }
        if let Some(env) = &self.env {
            set("envFrom", json!([{ "configMapRef": { "name": env } }]));
        }
        container
    }

    /// What it mounts, of the pod's `volumes`. A ConfigMap is mounted whole: a file of it (`subPath`) never changes.
    #[must_use]
    pub fn volumes(&self) -> Vec<Value> {
        let config = json!({ "name": CONFIG_VOLUME, "configMap": { "name": self.config } });
        let secrets = self
            .secrets
            .iter()
            .map(|it| json!({ "name": it.volume(), "secret": { "secretName": it.secret } }));
        std::iter::once(config).chain(secrets).collect()
    }

    fn mounts(&self) -> Vec<Value> {
        let mount = |name: String, path: String| json!({ "name": name, "mountPath": path, "readOnly": true });
        let config = mount(CONFIG_VOLUME.to_owned(), "/etc/pillion".to_owned());
        let secrets = self
            .secrets
            .iter()
            .map(|it| mount(it.volume(), format!("/run/secrets/{}", it.directory)));
        std::iter::once(config).chain(secrets).collect()
    }
}

impl SecretFiles {
    fn volume(&self) -> String {
        format!("{NAME}-{}", self.directory)
    }
}

/// The container's name, by which a pod that has it is known.
pub const NAME: &str = "pillion";
/// The name of the admin port.
pub const PORT: &str = "pillion-admin";
/// Not `pillion-config`: a Secret may be mounted in `config`.
const CONFIG_VOLUME: &str = NAME;
/// Beside the app it is told to stop as early as the app is: it goes on for this long.
const DRAIN: &str = "--drain-delay=15s";
const USER: u32 = 65532;
