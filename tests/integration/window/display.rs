//! The program as a process: with a display under Xvfb, and without any.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::{Desk, Finished};

/// An X server in memory, ended when dropped.
struct Xvfb {
    server: Child,
    display: String,
}

impl Xvfb {
    /// A server on the first free display; `None` where Xvfb is not installed.
    fn start() -> Option<Self> {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1280x720x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // It says its number once it can be connected to.
        let mut number = String::new();
        BufReader::new(server.stdout.take()?).read_line(&mut number).unwrap();
        Some(Self { server, display: format!(":{}", number.trim()) })
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
    let Some(server) = Xvfb::start() else {
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
