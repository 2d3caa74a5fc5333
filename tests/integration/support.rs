//! Running the program as a process.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder of the source tree.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder for one test, with the program's cache inside: tests do not see each other's, nor the
/// user's.
pub struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Names of what lies in the folder, without the cache.
    pub fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != "cache")
            .collect();
        names.sort();
        names
    }

    /// The program with these arguments, in this folder, on the CPU.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        self.command_on("cpu", arguments)
    }

    /// The program with these arguments, in this folder, on another device.
    pub fn command_on<S: AsRef<OsStr>>(&self, device: &str, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haze"));
        command
            .args(arguments)
            .args(["--device", device])
            .current_dir(self.folder.path())
            .env("HAZE_CACHE", self.path("cache"))
            .env("HF_HOME", self.path("cache/hf"))
            .env("HF_HUB_OFFLINE", "1")
            .env_remove("HF_HUB_CACHE")
            .env_remove("HUGGINGFACE_HUB_CACHE")
            .env_remove("HAZE_ASSETS")
            .env_remove("RUST_LOG")
            // No test opens a window by accident.
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("WAYLAND_SOCKET")
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Finished {
        Finished(self.command(arguments).output().unwrap())
    }
}

/// A finished run of the program.
pub struct Finished(Output);

impl Finished {
    /// What a process left.
    pub fn of(output: Output) -> Self {
        Self(output)
    }

    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// This run, which must have succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code(), 0, "{}\n{}", self.stdout(), self.stderr());
        self
    }

    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout(), self.stderr()))
    }
}

/// Options that make a decode short: two tiles and the mean in two steps.
pub const SHORT: [&str; 6] = ["--samples", "2", "--steps", "2", "--draws", "100"];

/// `arguments` with [`SHORT`] behind them.
pub fn short<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &SHORT].concat()
}

/// Rows of a CSV file, the header first.
pub fn csv(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}
