//! `pillion wait`, `pillion healthcheck`, `pillion shutdown`: what is asked of a pillion that runs on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use crate::config::reload;
use crate::net::ask::ask;

/// Waits until pillion is ready: until every provider that is `warm` has given a token.
#[must_use]
pub fn wait(admin: SocketAddr, limit: Duration) -> ExitCode {
    block_on(async {
        let deadline = Instant::now() + limit;
        loop {
            let told = match ask(admin, Method::GET, "/readyz", PATIENCE).await {
                Ok((StatusCode::OK, _)) => return Ok("ready".to_owned()),
                Ok((_, told)) => told,
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(format!("not ready after {limit:?}: {told}"));
            }
            sleep(POLL_INTERVAL).await;
        }
    })
}

/// Asks whether the process turns; with `ready`, whether it is ready.
#[must_use]
pub fn healthcheck(admin: SocketAddr, ready: bool, limit: Duration) -> ExitCode {
    let path = if ready { "/readyz" } else { "/livez" };
    block_on(async {
        match ask(admin, Method::GET, path, limit).await {
            Ok((StatusCode::OK, told)) => Ok(told),
            Ok((_, told)) => Err(told),
            Err(error) => Err(error.to_string()),
        }
    })
}

/// Asks it to stop, as SIGTERM does.
#[must_use]
pub fn shutdown(admin: SocketAddr, limit: Duration) -> ExitCode {
    block_on(async {
        match ask(admin, Method::POST, "/quitquitquit", limit).await {
            Ok((StatusCode::OK, told)) => Ok(told),
            Ok((_, told)) => Err(told),
            Err(error) => Err(error.to_string()),
        }
    })
}

/// Where the admin listener of a pillion with the configuration at `path` is to be found; where it is by default, if there
/// is no such file.
#[must_use]
pub fn admin_of(path: &Path) -> SocketAddr {
    let Ok((file, _, _)) = reload::read(path) else {
        return SocketAddr::from((Ipv4Addr::LOCALHOST, 9901));
    };
    let mut address = file.admin.address.value;
    if address.ip().is_unspecified() {
        let here: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(here);
    }
    address
}

fn block_on(asking: impl Future<Output = Result<String, String>>) -> ExitCode {
    let outcome = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(asking),
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(told) => {
            eprintln!("pillion: {told}");
            ExitCode::FAILURE
        }
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);
