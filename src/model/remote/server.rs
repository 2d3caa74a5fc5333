//! Serving a device of this machine.
//!
//! burn's server listens on a port of the loopback that nobody is told. In front of it stands a
//! gate on the public port: it answers hellos, gives out tickets, passes sessions on byte by byte,
//! and turns everything else away.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use burn::server::{AuthorizationRequest, RemoteServer, WebSocketTransport};
use socket2::{SockRef, TcpKeepalive};

use super::RemoteError;
use super::address::RemoteAddress;
use super::hello::{HELLO, Hello, PATIENCE, SESSION, drain, turn_away};
use super::token::{Ticket, Token, random_bytes};
use crate::model::device::ComputeDevice;

/// Connections at a time.
const CONNECTION_LIMIT: usize = 64;
/// Tickets that were given out and not used; the oldest is void when there are more.
const TICKET_LIMIT: usize = 256;
/// A client that vanished is noticed after 10 s + 4 times 5 s, and its tensors are freed.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5));

/// What a server tells who runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEvent {
    /// A session began.
    Joined { client: SocketAddr },
    /// A session ended; bytes that came and went.
    Left { client: SocketAddr, received: u64, sent: u64 },
    /// A client could not prove that it knows the token.
    WrongToken,
}

/// A server that is bound and not serving yet.
pub struct Server {
    gate: TcpListener,
    inner: TcpListener,
    device: ComputeDevice,
    token: Token,
}

impl Server {
    /// Binds the public port. Connections wait until [`Server::serve`].
    ///
    /// # Errors
    /// When the address is not ours or taken, or the device is a remote one itself.
    pub fn bind(
        listen: &RemoteAddress,
        device: &ComputeDevice,
        token: Token,
    ) -> Result<Self, RemoteError> {
        if device.remote.is_some() {
            return Err(RemoteError::ServesRemote);
        }
        let error =
            |e: io::Error| RemoteError::Listen { address: listen.clone(), reason: e.to_string() };
        let gate = TcpListener::bind(listen.resolve()?.as_slice()).map_err(error)?;
        Ok(Self {
            gate,
            inner: TcpListener::bind("127.0.0.1:0").map_err(error)?,
            device: device.clone(),
            token,
        })
    }

    /// The public address, with the port that the system chose.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> Result<SocketAddr, RemoteError> {
        self.gate.local_addr().map_err(|e| RemoteError::Serve { reason: e.to_string() })
    }

    /// Serves until the process is asked to end (Ctrl-C or SIGTERM). `on_event` is called from
    /// the threads of the connections.
    ///
    /// # Errors
    /// When burn's server cannot run.
    pub fn serve(
        self,
        on_event: impl Fn(ServerEvent) + Send + Sync + 'static,
    ) -> Result<(), RemoteError> {
        let error = |reason: String| RemoteError::Serve { reason };
        let inner = self.inner.local_addr().map_err(|e| error(e.to_string()))?;
        let desk = Arc::new(Desk {
            device: self.device.clone(),
            token: self.token,
            inner,
            tickets: Mutex::default(),
            connections: AtomicUsize::new(0),
            on_event: Box::new(on_event),
        });
        let gate = self.gate;
        let at_gate = Arc::clone(&desk);
        std::thread::Builder::new()
            .name("gate".to_owned())
            .spawn(move || keep_gate(&gate, &at_gate))
            .map_err(|e| error(e.to_string()))?;
        RemoteServer::new([self.device.device])
            .with_authorizer(move |request: AuthorizationRequest<'_>| {
                if desk.redeem(request.credential.as_bytes()) {
                    return Ok(());
                }
                (desk.on_event)(ServerEvent::WrongToken);
                Err("the token is wrong, or the ticket was used before".to_owned())
            })
            .serve(WebSocketTransport::from_listener(self.inner))
            .map_err(|e| error(e.to_string()))
    }
}

/// What all connections of a server share.
struct Desk {
    device: ComputeDevice,
    token: Token,
    /// Where burn's server listens.
    inner: SocketAddr,
    tickets: Mutex<VecDeque<Ticket>>,
    connections: AtomicUsize,
    on_event: Box<dyn Fn(ServerEvent) + Send + Sync>,
}

impl Desk {
    /// A ticket that was never given out before.
    fn new_ticket(&self) -> Result<Ticket, RemoteError> {
        let ticket = random_bytes()?;
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() == TICKET_LIMIT {
            tickets.pop_front();
        }
        tickets.push_back(ticket);
        Ok(ticket)
    }

    /// Whether a credential is the proof for a ticket that is still open, which it then is no
    /// longer.
    fn redeem(&self, credential: &[u8]) -> bool {
        let Ok(credential) = <[u8; blake3::OUT_LEN]>::try_from(credential) else { return false };
        let credential = blake3::Hash::from_bytes(credential);
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        // Hashes compare in constant time.
        match tickets.iter().position(|ticket| self.token.proof(ticket) == credential) {
            Some(at) => tickets.remove(at).is_some(),
            None => false,
        }
    }
}

/// Takes in connections for as long as the process lives.
fn keep_gate(gate: &TcpListener, desk: &Arc<Desk>) {
    for stream in gate.incoming() {
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!("a connection could not be taken in: {error}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if desk.connections.load(Ordering::SeqCst) >= CONNECTION_LIMIT {
            let _ = turn_away(&mut stream, "503 Too Many Connections");
            continue;
        }
        desk.connections.fetch_add(1, Ordering::SeqCst);
        let place = Place(Arc::clone(desk));
        let thread = std::thread::Builder::new().name("connection".to_owned());
        let taken = thread.spawn(move || {
            if let Err(error) = receive(stream, &place.0) {
                tracing::debug!("a connection ended: {error}");
            }
        });
        if let Err(error) = taken {
            tracing::warn!("no thread for a connection: {error}");
        }
    }
}

/// A connection's place among those that are counted.
struct Place(Arc<Desk>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers a hello, or passes a session on.
fn receive(mut stream: TcpStream, desk: &Arc<Desk>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match first_words(&stream)? {
        First::Hello => {
            let ticket = desk.new_ticket().map_err(io::Error::other)?;
            Hello::new(&desk.device, ticket).answer(&mut stream)
        }
        First::Session => {
            stream.set_read_timeout(None)?;
            stream.set_write_timeout(None)?;
            pass_on(&stream, desk)
        }
        First::Other => {
            turn_away(&mut stream, "404 Not Found")?;
            drain(&mut stream)
        }
    }
}

/// What a client begins with.
enum First {
    Hello,
    Session,
    Other,
}

/// Looks at the first bytes and leaves them where they are.
fn first_words(stream: &TcpStream) -> io::Result<First> {
    let mut seen = [0; 64];
    let start = Instant::now();
    loop {
        let count = stream.peek(&mut seen)?;
        let seen = &seen[..count];
        if seen.starts_with(HELLO) {
            return Ok(First::Hello);
        }
        if seen.starts_with(SESSION) {
            return Ok(First::Session);
        }
        let may_become = |words: &[u8]| count < words.len() && words.starts_with(seen);
        if count == 0 || !(may_become(HELLO) || may_become(SESSION)) {
            return Ok(First::Other);
        }
        if start.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Carries bytes between a client and burn's server until either is done.
fn pass_on(client: &TcpStream, desk: &Desk) -> io::Result<()> {
    let peer = client.peer_addr()?;
    let server = TcpStream::connect(desk.inner)?;
    server.set_nodelay(true)?;
    (desk.on_event)(ServerEvent::Joined { client: peer });
    let (received, sent) = std::thread::scope(|scope| {
        let up = scope.spawn(|| {
            let (bytes, failed) = carry(client, &server);
            // Half closed, so that the last answers still come; all when the client is gone.
            let _ = server.shutdown(if failed { Shutdown::Both } else { Shutdown::Write });
            bytes
        });
        let (sent, _) = carry(&server, client);
        let _ = client.shutdown(Shutdown::Both);
        (up.join().unwrap_or(0), sent)
    });
    (desk.on_event)(ServerEvent::Left { client: peer, received, sent });
    Ok(())
}

/// Bytes carried until the end, and whether it ended by a failure.
fn carry(mut from: &TcpStream, mut to: &TcpStream) -> (u64, bool) {
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        let count = match io::Read::read(&mut from, &mut buffer) {
            Ok(0) => return (total, false),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return (total, true),
        };
        if io::Write::write_all(&mut to, &buffer[..count]).is_err() {
            return (total, true);
        }
        total += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk() -> Desk {
        Desk {
            device: ComputeDevice::cpu(),
            token: Token::random().unwrap(),
            inner: "127.0.0.1:1".parse().unwrap(),
            tickets: Mutex::default(),
            connections: AtomicUsize::new(0),
            on_event: Box::new(|_| {}),
        }
    }

    #[test]
    fn a_ticket_is_good_for_one_session_and_for_the_right_token_only() {
        let desk = desk();
        let ticket = desk.new_ticket().unwrap();
        let wrong = Token::random().unwrap().proof(&ticket);
        assert!(!desk.redeem(wrong.as_bytes()));
        assert!(!desk.redeem(b""));
        assert!(!desk.redeem(desk.token.proof(&[0; 32]).as_bytes()));
        let proof = desk.token.proof(&ticket);
        assert!(desk.redeem(proof.as_bytes()));
        assert!(!desk.redeem(proof.as_bytes()));
    }

    #[test]
    fn the_oldest_open_ticket_is_void_when_there_are_too_many() {
        let desk = desk();
        let tickets: Vec<Ticket> = (0..=TICKET_LIMIT).map(|_| desk.new_ticket().unwrap()).collect();
        assert!(!desk.redeem(desk.token.proof(&tickets[0]).as_bytes()));
        assert!(desk.redeem(desk.token.proof(&tickets[1]).as_bytes()));
        assert!(desk.redeem(desk.token.proof(&tickets[TICKET_LIMIT]).as_bytes()));
    }

    #[test]
    fn a_remote_device_is_not_served_on() {
        let address = RemoteAddress::parse("127.0.0.1:0").unwrap();
        let device = ComputeDevice { remote: Some(address.clone()), ..ComputeDevice::cpu() };
        let bound = Server::bind(&address, &device, Token::random().unwrap());
        assert!(matches!(bound.err(), Some(RemoteError::ServesRemote)));
    }
}
