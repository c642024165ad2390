//! `pillion demo`: the real proxy and the real configuration, against stand-ins of the systems that it names.

mod call;
mod cast;
mod live;
mod scrape;
mod screen;
mod story;
mod tour;
mod words;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use self::call::{Call, reachable};
use self::cast::{Cast, System};
use self::live::Live;
use self::screen::Screen;
use self::story::Story;
use self::tour::Tour;
use super::check;
use super::run::{Overlay, Running, StartError, start};
use crate::config::reload;
use crate::fake::{ClientKey, FakeError, Systems};

/// Runs the tour, and stays up after it unless it is `once`.
#[must_use]
pub fn main(path: &Path, once: bool) -> ExitCode {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return give_up(&DemoError::Start(StartError::Machine(error))),
    };
    runtime
        .block_on(show(path, once))
        .unwrap_or_else(|error| give_up(&error))
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot set up the stand-ins: {0}")]
    Fake(#[from] FakeError),
}

fn give_up(error: &DemoError) -> ExitCode {
    if let DemoError::Start(StartError::Config(error)) = error {
        return check::fail(error);
    }
    eprintln!("pillion: {error}");
    ExitCode::FAILURE
}

async fn show(path: &Path, once: bool) -> Result<ExitCode, DemoError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Machine)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Machine)?;
    tokio::select! {
        code = play(path, once) => code,
        // Asked to stop: the tour was not seen to its end.
        _ = terminate.recv() => Ok(stopped(once)),
        _ = interrupt.recv() => Ok(stopped(once)),
    }
}

fn stopped(once: bool) -> ExitCode {
    if once {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

async fn play(path: &Path, once: bool) -> Result<ExitCode, DemoError> {
    let (file, report, _) = reload::read(path).map_err(StartError::Config)?;
    if !report.is_empty() {
        check::tell(&report);
    }
    let screen = Screen::of_stdout();
    let mut story = Story::on(&screen);
    story.heading(&format!(
        "{}, unmodified, against stand-ins on this machine",
        path.display()
    ));
    let systems = Systems::start().await?;
    let key = ClientKey::rsa()?;
    let stitch = systems.stitch.token_endpoint();
    stitch.also_take_assertions_of(&key.public_key_pem);
    let cast = Cast::of(&file, &systems, &key);
    introduce(&story, &cast, &systems);
    let running = open(path, &cast, &systems, &story)?;
    let live = Live::new(&screen, &systems, &running);
    let tour = Tour::new(&systems, &running, &cast, &live);
    tokio::select! {
        code = tell(&tour, &mut story, &running, &cast, once) => {
            live.end();
            Ok(code)
        }
        never = live.follow() => match never {},
    }
}

async fn tell(
    tour: &Tour<'_>,
    story: &mut Story<'_>,
    running: &Running,
    cast: &Cast,
    once: bool,
) -> ExitCode {
    tour.go(story).await;
    let good = story.end();
    if once {
        return if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    invite(story, running, cast);
    tour.go_on(story).await;
    std::future::pending().await
}

fn introduce(story: &Story<'_>, cast: &Cast, systems: &Systems) {
    for (host, address) in systems.resolve() {
        if cast.hosts.contains(&host) {
            story.line(&format!("stand-in   {host} is {address}"));
        }
    }
    for reference in &cast.made_up {
        story.line(&format!("made up    what should be in {reference}"));
    }
    for left_out in &cast.left_out {
        story.line(&format!("left out   {left_out}"));
    }
}

/// On the file's own addresses, or on free ports where one of them is taken.
fn open(
    path: &Path,
    cast: &Cast,
    systems: &Systems,
    story: &Story<'_>,
) -> Result<Running, StartError> {
    let mut overlay = Overlay {
        secrets: cast.secrets(),
        resolve: resolve(cast, systems),
        trust: vec![systems.authority.certificate_der()],
        free_ports: false,
        ..Overlay::default()
    };
    let running = match start(path, overlay.clone(), false) {
        Err(error @ StartError::Listen { .. }) => {
            story.line(&format!("free ports {error}"));
            overlay.free_ports = true;
            start(path, overlay, false)?
        }
        started => started?,
    };
    story.line(&format!(
        "listening  {} for the app, {} for the SRE",
        joined(&running.addresses),
        running.admin
    ));
    Ok(running)
}

/// What is played is found on this machine, and everything else nowhere.
fn resolve(cast: &Cast, systems: &Systems) -> Vec<((String, u16), SocketAddr)> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let elsewhere = cast.elsewhere.iter().cloned().map(|host| (host, nowhere));
    let played = systems.resolve().into_iter().filter_map(|(name, address)| {
        let (host, port) = name.rsplit_once(':')?;
        Some(((host.to_owned(), port.parse().ok()?), address))
    });
    // The later of two wins: a played host that some route reaches in another way is still played.
    elsewhere.chain(played).collect()
}

fn joined(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(" and ")
}

fn invite(story: &Story<'_>, running: &Running, cast: &Cast) {
    story.chapter("now you", "everything stays up until Ctrl-C");
    if let Some(&address) = running.addresses.first() {
        for system in System::ALL {
            let mut commands: Vec<_> = cast
                .parts(system)
                .map(|part| (part.hands_out(), part.reads().to_curl(reachable(address))))
                .collect();
            // Tokens for the app's own clients are what the last two are about.
            let hand_out = matches!(system, System::Concierge | System::Highnote);
            commands.sort_by_key(|(hands_out, command)| (*hands_out != hand_out, command.len()));
            if let Some((_, command)) = commands.first() {
                story.command(command);
            }
        }
    }
    for path in ["/status", "/metrics"] {
        story.command(&Call::get(path).to_curl(reachable(running.admin)));
    }
    story.line(&format!("or http://{}/status in a browser", running.admin));
}
