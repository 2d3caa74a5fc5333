//! The device of another machine, here of another process: `haze serve` on the loopback, and a
//! client with `--device remote:HOST:PORT`.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Desk, Finished, short};

const TOKEN: &str = "a-token-for-the-tests";
/// Nothing here takes that long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// A server in a process of its own, ended with the test.
struct Server {
    child: Child,
    /// What it said when it was ready.
    ready: Value,
    /// Lines of its stderr.
    lines: Receiver<String>,
}

impl Server {
    fn start(desk: &Desk, listen: &str) -> Self {
        let mut command = desk.command(&["serve", "--listen", listen, "--json"]);
        Self::of(command.env("HAZE_TOKEN", TOKEN))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("{error}: {line:?}, {:?}", lines.iter().collect::<Vec<_>>())
        });
        Self { child, ready, lines }
    }

    fn port(&self) -> u64 {
        self.ready["port"].as_u64().unwrap()
    }

    fn device(&self) -> String {
        format!("remote:127.0.0.1:{}", self.port())
    }

    /// Waits for a line of its stderr that contains `text`.
    fn wait_for(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(desk: &Desk, device: &str, arguments: &[&str]) -> Command {
    let mut command = desk.command_on(device, arguments);
    command.env("HAZE_TOKEN", TOKEN).env("HAZE_CONFIG", desk.path("config"));
    command
}

fn finish(mut command: Command) -> Finished {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (sender, ended) = std::sync::mpsc::channel();
    let id = child.id();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).unwrap();
        text
    });
    std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).unwrap();
        let status = child.wait().unwrap();
        let stderr = reader.join().unwrap();
        let _ = sender.send(std::process::Output { status, stdout: text, stderr });
    });
    Finished::of(ended.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("process {id} hangs")))
}

fn embeddings(run: &Finished) -> Vec<Vec<f64>> {
    let json = run.json();
    let each = json["embeddings"].as_array().unwrap().iter();
    each.map(|e| e["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect())
        .collect()
}

const QUERIES: [&str; 4] = ["embed", "a slice of cake", "food", "--json"];

#[test]
fn a_remote_device_embeds_as_the_own_one_and_a_second_client_finds_it_ready() {
    let desk = Desk::new();
    let server = Server::start(&desk, "127.0.0.1:0");
    assert_ne!(server.port(), 0);
    assert!(server.ready["new_token"].is_null() && server.ready["token_file"].is_null());
    let local = embeddings(&desk.run(&QUERIES).ok());
    for _ in 0..2 {
        let remote = embeddings(&finish(client(&desk, &server.device(), &QUERIES)).ok());
        assert_eq!(local.len(), remote.len());
        for (a, b) in local.iter().flatten().zip(remote.iter().flatten()) {
            assert!((a - b).abs() <= 1e-5 * a.abs().max(1.0), "{a} {b}");
        }
        // The session ends with the client, and says what travelled.
        let line = server.wait_for(" left; ");
        assert!(line.contains("MiB came"), "{line}");
    }
    let doctor = finish(client(&desk, &server.device(), &["doctor", "--json"])).ok().json();
    let found = |what: &str| {
        let check = doctor["checks"].as_array().unwrap().iter().find(|c| c["what"] == what);
        check.unwrap_or_else(|| panic!("{doctor}"))["found"].as_str().unwrap().to_owned()
    };
    assert!(found("device").contains(&format!("on 127.0.0.1:{}", server.port())));
    assert!(found("remote").contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_remote_device_decodes_the_same_pictures() {
    let desk = Desk::new();
    let server = Server::start(&desk, "127.0.0.1:0");
    let arguments = |out| short(&["sample", "cake", "--out", out]);
    desk.run(&arguments("here")).ok();
    let run = finish(client(&desk, &server.device(), &arguments("there"))).ok();
    assert!(run.stderr().contains("weights of the decoder"), "{}", run.stderr());
    let pixels = |run: &str| {
        let path = desk.path(run);
        let mut files: Vec<_> = walk(&path).into_iter().filter(|p| is_png(p)).collect();
        files.sort();
        let images = files.iter().map(|file| image::open(file).unwrap().to_rgb8().into_raw());
        images.collect::<Vec<_>>()
    };
    let (here, there) = (pixels("here"), pixels("there"));
    assert!(!here.is_empty() && here.len() == there.len());
    // The sheet has captions with the device's numbers: tiles alone are compared closely.
    for (a, b) in here.iter().zip(&there).filter(|(a, b)| a.len() == b.len()) {
        let worst = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).map(u64::from);
        let mean = worst.sum::<u64>() as f64 / a.len() as f64;
        assert!(mean < 1.0, "pixels differ by {mean} levels on average");
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

fn is_png(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "png")
}

#[test]
fn a_wrong_or_missing_token_and_a_wrong_address_each_say_what_to_do() {
    let desk = Desk::new();
    let server = Server::start(&desk, "127.0.0.1:0");
    let mut wrong = client(&desk, &server.device(), &QUERIES);
    wrong.env("HAZE_TOKEN", "another-token-than-that");
    let run = finish(wrong);
    assert_eq!(run.code(), 4, "{}", run.stderr());
    assert!(run.stderr().contains("refused the token"), "{}", run.stderr());
    server.wait_for("its token is wrong");

    let mut none = client(&desk, &server.device(), &QUERIES);
    none.env_remove("HAZE_TOKEN");
    let run = finish(none);
    assert_eq!(run.code(), 4, "{}", run.stderr());
    assert!(run.stderr().contains("remote_token does not exist"), "{}", run.stderr());

    // The port of a listener that is gone again.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("remote:{}", listener.local_addr().unwrap());
    drop(listener);
    for (device, text) in [
        (closed.as_str(), "nobody listens on 127.0.0.1"),
        ("remote:no-such-host.invalid", "cannot be resolved"),
    ] {
        let run = finish(client(&desk, device, &QUERIES));
        assert_eq!(run.code(), 4, "{}", run.stderr());
        assert!(run.stderr().contains(text), "{}", run.stderr());
    }
    let run = finish(client(&desk, "remote:host/path", &QUERIES));
    assert_eq!(run.code(), 2, "{}", run.stderr());

    // What is neither a hello nor a session is turned away, and the server goes on.
    let reply = |request: &[u8]| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port() as u16)).unwrap();
        std::io::Write::write_all(&mut stream, request).unwrap();
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    assert!(reply(b"GET /data HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(reply(b"\x16\x03\x01").starts_with("HTTP/1.1 404"));
    assert!(reply(b"GET /haze/hello HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200"));
    finish(client(&desk, &server.device(), &QUERIES)).ok();
}

#[test]
fn the_first_start_makes_a_token_that_a_client_with_the_same_file_uses() {
    let desk = Desk::new();
    let config = desk.path("config");
    let start = || {
        let mut command = desk.command(&["serve", "--listen", "127.0.0.1:0", "--json"]);
        Server::of(command.env_remove("HAZE_TOKEN").env("HAZE_CONFIG", &config))
    };
    let server = start();
    assert_eq!(server.ready["new_token"].as_str().unwrap().len(), 64);
    let mut command = client(&desk, &server.device(), &QUERIES);
    command.env_remove("HAZE_TOKEN");
    finish(command).ok();
    drop(server);
    let again = start();
    assert!(again.ready["new_token"].is_null());
    assert!(again.ready["token_file"].as_str().unwrap().ends_with("remote_token"));
}

#[test]
fn a_server_that_dies_in_the_middle_ends_the_job_with_the_reason_and_can_be_used_again() {
    let desk = Desk::new();
    let mut server = Server::start(&desk, "127.0.0.1:0");
    let arguments = ["sample", "cake", "--samples", "16", "--steps", "500", "--out", "result"];
    let mut child = client(&desk, &server.device(), &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once the decoder's weights travel, the job is well under way.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let begun = lines.by_ref().find(|line| line.contains("weights of the decoder"));
    assert!(begun.is_some());
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let rest: Vec<String> = lines.collect();
        let _ = sender.send((child.wait().unwrap().code(), rest.join("\n")));
    });
    let (code, said) = ended.recv_timeout(PATIENCE).expect("the client hangs");
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("the link to the remote device dropped"), "{said}");
    assert!(!desk.entries().iter().any(|name| name.contains("result")), "{:?}", desk.entries());
    // The same port, so the same name for the client.
    let again = Server::start(&desk, &format!("127.0.0.1:{}", server.port()));
    finish(client(&desk, &again.device(), &QUERIES)).ok();
}

#[test]
fn a_session_on_a_server_that_came_back_works_in_the_same_process() {
    use haze::encoder::Encoder;
    use haze::model::remote::{address::RemoteAddress, client, token::Token};
    let desk = Desk::new();
    let mut server = Server::start(&desk, "127.0.0.1:0");
    let address = RemoteAddress { host: "127.0.0.1".to_owned(), port: server.port() as u16 };
    let token = Token::new(TOKEN, "test").unwrap();
    let folder = crate::support::source("assets/demo/clip");
    let embed = |encoder: &Encoder| encoder.embed_texts(&["cake"]);

    let first = client::connect(&address, &token).unwrap();
    let encoder = Encoder::load(&folder, &first.device).unwrap();
    let before = embed(&encoder).unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let error = embed(&encoder).unwrap_err().to_string();
    assert!(error.contains("the link to the remote device dropped"), "{error}");

    let server = Server::start(&desk, &address.to_string());
    let second = client::connect(&address, &token).unwrap();
    assert_ne!(first.device, second.device);
    let encoder = Encoder::load(&folder, &second.device).unwrap();
    assert_eq!(embed(&encoder).unwrap()[0].values, before[0].values);
    drop(server);
}

#[test]
#[cfg(unix)]
fn a_server_that_is_asked_to_end_does_so_while_a_client_is_there() {
    let desk = Desk::new();
    let mut server = Server::start(&desk, "127.0.0.1:0");
    let address = format!("127.0.0.1:{}", server.port());
    let address = haze::model::remote::address::RemoteAddress::parse(&address).unwrap();
    let token = haze::model::remote::token::Token::new(TOKEN, "test").unwrap();
    let session = haze::model::remote::client::connect(&address, &token).unwrap();
    server.wait_for(" joined");
    let kill = Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(session.device.sync().is_err());
}
