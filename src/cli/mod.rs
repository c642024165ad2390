//! The command line: one file per command. The only place that prints.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "data on stdout, the rest on stderr: this is where people are spoken to"
)]

pub mod ask;
pub mod check;
mod colour;
pub mod demo;
pub mod explain;
pub mod init;
pub mod inject;
mod loaded;
mod privacy;
pub mod run;
mod sheet;
mod sidecar;
pub mod token;
pub mod webhook;
mod written;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::file::unit::parse_duration;

/// A sidecar proxy that carries an application's API tokens.
///
/// The app calls localhost without a credential; pillion finds the route, gets a live token for it, attaches it, and
/// renews it when the API says 401.
#[derive(Debug, Parser)]
#[command(name = "pillion", version, about, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Debug, Args)]
struct ConfigArgument {
    /// The configuration file [default: $PILLION_CONFIG, else proxy.toml here]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until asked to stop (the default)
    ///
    /// SIGTERM and SIGINT finish the requests under way and stop; a second one stops at once. SIGHUP reads the file
    /// again, which also happens whenever it changes: a bad one changes nothing.
    #[command(after_help = RUN_HELP)]
    Run {
        /// Serve the admin listener on all addresses of this machine, on this port, whatever the file says
        ///
        /// For kubelet's probes and Prometheus, which come to the pod's address. What acts is from this machine only.
        #[arg(long, value_name = "PORT")]
        admin_port: Option<u16>,
        /// Go on accepting for this long when asked to stop, whatever the file says
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        drain_delay: Option<Duration>,
    },
    /// Write a commented configuration for one system, and say what it wants
    ///
    /// Beside it goes proxy.schema.json, by which editors complete and explain the file. What is there already is not
    /// written over.
    #[command(after_help = INIT_HELP)]
    Init {
        /// For which system; without it, a terminal is asked
        #[arg(value_enum)]
        system: Option<init::System>,
        /// The file to write; the same as --config
        file: Option<PathBuf>,
        /// Write over what is there
        #[arg(long)]
        force: bool,
    },
    /// Check the configuration without the network, and tell every mistake in it
    ///
    /// With --online also whether its providers give tokens: one is fetched of each that needs no input.
    #[command(after_help = CHECK_HELP)]
    Check {
        /// The configuration file; the same as --config
        file: Option<PathBuf>,
        /// Also fetch one token of each provider that needs no input, and look at client certificates
        #[arg(long)]
        online: bool,
        /// How mistakes are told
        #[arg(long, value_enum, default_value_t, conflicts_with = "online")]
        format: check::format::Format,
    },
    /// Tell what becomes of a request, without the network and without a secret
    ///
    /// Which route takes it and why the ones before do not, what its inputs are, whose token it carries, what the upstream
    /// gets to see, and what follows when it answers 401.
    #[command(after_help = EXPLAIN_HELP)]
    Explain {
        /// The request's method
        method: String,
        /// What the app calls: http://localhost:8080/path, or /path alone
        url: String,
        /// A field of the request; may be repeated
        #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
        fields: Vec<String>,
        /// The request's content; as with curl, a form unless a Content-Type says otherwise
        #[arg(short = 'd', long = "data", value_name = "BODY")]
        body: Option<String>,
    },
    /// Fetch one token, and tell step by step how it goes
    ///
    /// Name, connection, TLS, request and answer are told with their times, of parents first; then what came: how long it is
    /// good, its scopes, the claims of a JWT. The token itself and secrets are not shown.
    #[command(after_help = TOKEN_HELP)]
    Token {
        /// Whose token
        provider: String,
        /// The provider's inputs: NAME=TEXT, or NAME:=JSON
        #[arg(value_name = "NAME=VALUE")]
        inputs: Vec<String>,
        /// Show the token itself, if stdout is a terminal
        #[arg(long)]
        show: bool,
        /// Use a refresh token that may be good only once
        #[arg(long)]
        spend: bool,
    },
    /// Run the configuration against stand-ins of the systems it names, and tell what happens
    ///
    /// The file is not changed: its hosts are found on 127.0.0.1, and what its secrets refer to is made up. Nothing
    /// leaves this machine. Where one of its addresses is taken, free ports are used instead. A terminal is also shown what
    /// goes on: the app's call, what the upstream got of it, and the life of its token.
    #[command(after_help = DEMO_HELP)]
    Demo {
        /// Stop after the tour; the exit code tells whether every step went as told
        #[arg(long)]
        once: bool,
    },
    /// Wait until the pillion that runs here is ready
    ///
    /// That is: until every provider that is `warm` has given a token. For scripts, and for a container that is to start
    /// after pillion.
    #[command(after_help = WAIT_HELP)]
    Wait {
        #[command(flatten)]
        admin: AdminArgument,
        /// How long at the most
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
        timeout: Duration,
    },
    /// Ask the pillion that runs here whether it is alive; a probe that needs no shell
    ///
    /// Never a matter of a provider, unless --ready asks for the first tokens too.
    #[command(after_help = HEALTHCHECK_HELP)]
    Healthcheck {
        #[command(flatten)]
        admin: AdminArgument,
        /// Whether it is ready: whether every provider that is `warm` has given a token
        #[arg(long)]
        ready: bool,
        /// How long an answer may take
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s")]
        timeout: Duration,
    },
    /// Ask the pillion that runs here to stop, as SIGTERM does
    #[command(after_help = SHUTDOWN_HELP)]
    Shutdown {
        #[command(flatten)]
        admin: AdminArgument,
        /// How long an answer may take
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
        timeout: Duration,
    },
    /// Put pillion into the pods of Kubernetes manifests: YAML in, YAML out
    ///
    /// Of every Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job and CronJob. All else stays as it is written,
    /// comments too; a pod that has pillion, or the label pillion.dev/inject with "false", is left alone.
    #[command(after_help = INJECT_HELP)]
    Inject {
        /// A file of manifests; - is stdin
        #[arg(short, long = "filename", value_name = "FILE", required = true)]
        filenames: Vec<PathBuf>,
        #[command(flatten)]
        sidecar: sidecar::SidecarArguments,
    },
    /// Put pillion into the pods of a cluster: a mutating admission webhook
    ///
    /// Answers AdmissionReviews at /mutate over TLS. The certificate is read again when its files change.
    #[command(after_help = WEBHOOK_HELP)]
    Webhook {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS", default_value = "[::]:8443")]
        listen: SocketAddr,
        /// Where its own probes and scrapers come to, in plain HTTP: /livez, /readyz, /metrics
        #[arg(long, value_name = "ADDRESS", default_value = "[::]:9901")]
        admin: SocketAddr,
        /// The certificate and those above it, in PEM
        #[arg(long, value_name = "FILE")]
        cert: PathBuf,
        /// Its key, in PEM
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// How long to go on accepting when asked to stop: the Service may not know yet
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
        drain_delay: Duration,
        #[command(flatten)]
        sidecar: sidecar::SidecarArguments,
    },
    /// Print the JSON Schema of proxy.toml, by which editors complete, explain and check it
    #[command(after_help = SCHEMA_HELP)]
    Schema,
    /// Print what a shell needs to complete pillion's commands and options
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = MAN_HELP)]
    Man,
}

/// Where the commands that speak with a running pillion find it.
#[derive(Debug, Args)]
struct AdminArgument {
    /// The admin listener [default: where the configuration file says, else 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

const EXAMPLES: &str = "\
Examples:
  pillion                          serve as proxy.toml here says
  pillion -c /etc/pillion.toml     serve as another file says
  pillion check                    every mistake in proxy.toml, at once
  pillion explain GET /stitch/x    what becomes of a request, without sending it
  pillion token stitch             fetch one token, step by step
  pillion demo                     see it work, without an account anywhere
  pillion inject -f deploy.yaml    put it into the pods of a manifest
  pillion init stitch              write proxy.toml for a system of your own";

const EXIT_CODES: &str = "\
Exit codes:
  0  asked to stop, or nothing wrong
  1  a mistake in the configuration, or a failure
  2  wrong arguments, or a configuration file that cannot be read";

const RUN_HELP: &str = "\
Examples:
  pillion run
  PILLION_CONFIG=/etc/pillion/proxy.toml pillion run

Exit codes:
  0  asked to stop
  1  a mistake in the configuration, or an address that is taken
  2  wrong arguments, or a configuration file that cannot be read";

const INIT_HELP: &str = "\
Examples:
  pillion init
  pillion init stitch
  pillion init oauth2 deploy/proxy.toml

Exit codes:
  0  written
  1  the file is there already, or cannot be written
  2  wrong arguments, or no system and nobody to ask";

const CHECK_HELP: &str = "\
Examples:
  pillion check
  pillion check deploy/proxy.toml
  pillion check --online
  pillion check --format sarif > pillion.sarif

Exit codes:
  0  nothing wrong; there may be warnings
  1  mistakes; with --online, a provider that gives no token, or a certificate that has ended
  2  wrong arguments, or a configuration file that cannot be read";

const EXPLAIN_HELP: &str = "\
Examples:
  pillion explain GET http://localhost:8080/stitch/graphql
  pillion explain GET /stitch/graphql
  pillion explain POST /stitch/graphql -H 'Content-Type: application/json' -d '{\"query\":\"{ client { id } }\"}'

Exit codes:
  0  a route takes it
  1  pillion answers itself, with a problem
  2  wrong arguments, or a configuration that cannot be used";

const TOKEN_HELP: &str = "\
Examples:
  pillion token stitch
  pillion token forage-session merchant=1234567
  pillion token concierge-customer minutes:=60 customer=42

Exit codes:
  0  there is a token
  1  there is none
  2  wrong arguments, or a configuration that cannot be used";

const DEMO_HELP: &str = "\
Examples:
  pillion demo
  pillion demo --once
  pillion demo --config my.toml

Exit codes:
  0  asked to stop; with --once, every step went as told
  1  a mistake in the configuration, or a failure; with --once, a step that did not go as told
  2  wrong arguments, or a configuration file that cannot be read";

const WAIT_HELP: &str = "\
Examples:
  pillion wait
  pillion wait --timeout 30s && exec my-app

Exit codes:
  0  it is ready
  1  it is not, after the time that it had
  2  wrong arguments";

const HEALTHCHECK_HELP: &str = "\
Examples:
  pillion healthcheck
  pillion healthcheck --ready --admin 127.0.0.1:9901

Exit codes:
  0  it is well
  1  it is not, or does not answer
  2  wrong arguments";

const SHUTDOWN_HELP: &str = "\
Examples:
  pillion shutdown
  kubectl exec my-pod -c pillion -- /pillion shutdown

Exit codes:
  0  it stops
  1  it cannot be asked
  2  wrong arguments";

const INJECT_HELP: &str = "\
Examples:
  pillion inject -f deploy.yaml
  pillion inject -f deploy.yaml --secret stitch | kubectl apply -f -
  kustomize build | pillion inject -f - > injected.yaml

Exit codes:
  0  printed
  1  a manifest that cannot be read or added to
  2  wrong arguments, or a file that cannot be read";

const WEBHOOK_HELP: &str = "\
Examples:
  pillion webhook --cert /tls/tls.crt --key /tls/tls.key

Exit codes:
  0  asked to stop
  1  an address that is taken, or a certificate that cannot be used
  2  wrong arguments";

const SCHEMA_HELP: &str = "\
Examples:
  pillion schema > proxy.schema.json

A file that begins with `#:schema ./proxy.schema.json` is then completed and checked by editors that know taplo:
VS Code with Even Better TOML, Zed, Helix, Neovim.

Exit codes:
  0  printed
  1  it cannot be written
  2  wrong arguments";

const COMPLETIONS_HELP: &str = "\
Examples:
  pillion completions bash > ~/.local/share/bash-completion/completions/pillion
  pillion completions fish > ~/.config/fish/completions/pillion.fish

Exit codes:
  0  printed
  1  it cannot be written
  2  wrong arguments";

const MAN_HELP: &str = "\
Examples:
  pillion man > ~/.local/share/man/man1/pillion.1
  pillion man | man -l -

Exit codes:
  0  printed
  1  it cannot be written
  2  wrong arguments";

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    privacy::hush_panics();
    if let Err(error) = privacy::close_memory() {
        eprintln!("pillion: the memory of this process is open to its user: {error}");
    }
    let arguments = Arguments::parse();
    let path = arguments.config.config.clone().unwrap_or_else(default_path);
    let serve = Command::Run {
        admin_port: None,
        drain_delay: None,
    };
    match arguments.command.unwrap_or(serve) {
        Command::Run {
            admin_port,
            drain_delay,
        } => {
            let overlay = run::Overlay {
                admin_port,
                drain_delay,
                ..run::Overlay::default()
            };
            run::main(&path, overlay)
        }
        Command::Wait { admin, timeout } => ask::wait(admin.address(&path), timeout),
        Command::Healthcheck {
            admin,
            ready,
            timeout,
        } => ask::healthcheck(admin.address(&path), ready, timeout),
        Command::Shutdown { admin, timeout } => ask::shutdown(admin.address(&path), timeout),
        Command::Inject { filenames, sidecar } => inject::main(&filenames, &sidecar.into()),
        Command::Webhook {
            listen: address,
            admin,
            cert,
            key,
            drain_delay,
            sidecar,
        } => {
            let place = webhook::Place {
                address,
                admin,
                cert,
                key,
                drain_delay,
            };
            webhook::main(&place, sidecar.into())
        }
        Command::Init {
            system,
            file,
            force,
        } => init::main(system, &file.unwrap_or(path), force),
        Command::Check {
            file,
            online,
            format,
        } => check::main(&file.unwrap_or(path), format, online),
        Command::Explain {
            method,
            url,
            fields,
            body,
        } => explain::main(&path, &method, &url, &fields, body.as_deref()),
        Command::Token {
            provider,
            inputs,
            show,
            spend,
        } => token::main(
            &path,
            &token::Wanted {
                provider,
                inputs,
                show,
                spend,
            },
        ),
        Command::Schema => written::schema(),
        Command::Completions { shell } => written::completions(shell, Arguments::command()),
        Command::Man => written::man(Arguments::command()),
        Command::Demo { once } => demo::main(&path, once),
    }
}

impl AdminArgument {
    fn address(&self, config: &Path) -> SocketAddr {
        self.admin.unwrap_or_else(|| ask::admin_of(config))
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("write a number and ms, s, m or h: 500ms, 10s, 1m30s")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line may read the environment"
)]
fn default_path() -> PathBuf {
    std::env::var_os("PILLION_CONFIG").map_or_else(|| PathBuf::from("proxy.toml"), PathBuf::from)
}

/// The exit code of wrong arguments, clap's own too.
const USAGE: u8 = 2;
