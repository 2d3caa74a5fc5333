//! The program as a process: with a display under Xvfb, and without any.
#![cfg(target_os = "linux")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Desk, Finished};

/// An X server in memory, ended when dropped.
struct Xvfb {
    server: Child,
    display: String,
}

impl Xvfb {
    /// `None` where Xvfb is not installed.
    fn start(number: u32) -> Option<Self> {
        let display = format!(":{number}");
        let server = Command::new("Xvfb")
            .args([&display, "-screen", "0", "1280x720x24", "-nolisten", "tcp"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let socket = std::path::PathBuf::from(format!("/tmp/.X11-unix/X{number}"));
        let start = Instant::now();
        while !socket.exists() {
            assert!(start.elapsed() < Duration::from_secs(20), "Xvfb did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { server, display })
    }
}

impl Drop for Xvfb {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn without_display(desk: &Desk, arguments: &[&str]) -> Finished {
    let mut command = desk.command(arguments);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("WAYLAND_SOCKET");
    command.env("HAZE_CONFIG", desk.path("config"));
    Finished::of(command.output().unwrap())
}

#[test]
fn without_a_display_plain_haze_says_what_to_run_instead() {
    let desk = Desk::new();
    let finished = without_display(&desk, &[]);
    assert_eq!(finished.code(), 7, "{}", finished.stderr());
    assert!(finished.stderr().contains("haze sample"), "{}", finished.stderr());
}

#[test]
fn without_a_display_the_demo_runs_headless_and_says_where_the_sheet_is() {
    let desk = Desk::new();
    let finished = without_display(&desk, &["demo"]).ok();
    assert!(finished.stdout().contains("sheet.png"), "{}", finished.stdout());
    assert!(desk.path("haze-out/demo/sheet.png").is_file());
}

#[test]
fn on_a_display_the_demo_opens_a_window_that_shows_the_query() {
    let Some(server) = Xvfb::start(97) else {
        eprintln!("skipped: Xvfb is not installed");
        return;
    };
    let desk = Desk::new();
    let picture = desk.path("window.png");
    let mut command = desk.command(&["demo", "--screenshot", picture.to_str().unwrap()]);
    command
        .env("DISPLAY", &server.display)
        .env_remove("WAYLAND_DISPLAY")
        .env("HAZE_CONFIG", desk.path("config"));
    let finished = Finished::of(command.output().unwrap());
    assert_eq!(finished.code(), 0, "{}", finished.stderr());
    let image = image::open(&picture).unwrap().to_rgb8();
    let colours: std::collections::BTreeSet<_> = image.pixels().map(|p| p.0).collect();
    assert!(colours.len() > 500, "only {} colours: no pictures are shown", colours.len());
}
