//! Where a server is: a host and a port, as users write them.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

use super::RemoteError;

/// Port of `haze serve` when none is named.
pub const DEFAULT_PORT: u16 = 7420;
/// Longest name that the domain name system knows.
const HOST_LIMIT: usize = 253;

/// A host, by name or by number, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RemoteAddress {
    /// Name or IP address, without brackets.
    pub host: String,
    /// 0 only where the system is to choose one.
    pub port: u16,
}

impl RemoteAddress {
    /// Reads `HOST`, `HOST:PORT`, `[IPv6]:PORT` or a bare IPv6 address.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let error = |reason| RemoteError::Address { found: text.to_owned(), reason };
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(|| error("a ] is missing"))?;
            match rest {
                "" => (host, None),
                _ => (host, Some(rest.strip_prefix(':').ok_or_else(|| error("no : after ]"))?)),
            }
        } else {
            match text.split_once(':') {
                // More colons than one: an IPv6 address without a port.
                Some((_, rest)) if rest.contains(':') => (text, None),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().map_err(|_| error("the port is no number up to 65535"))?,
        };
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
        match host {
            "" => Err(error("the host is missing")),
            _ if host.len() > HOST_LIMIT => Err(error("the host is too long")),
            _ if !host.chars().all(is_part) => Err(error("the host holds other characters")),
            _ => Ok(Self { host: host.to_owned(), port }),
        }
    }

    /// The numbers behind the name, at least one.
    ///
    /// # Errors
    /// When the name is unknown.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, RemoteError> {
        let error = |reason| RemoteError::Name { host: self.host.clone(), reason };
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let found: Vec<SocketAddr> = found.map_err(|e| error(e.to_string()))?.collect();
        if found.is_empty() { Err(error("it has no address".to_owned())) } else { Ok(found) }
    }
}

impl From<SocketAddr> for RemoteAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_a_port_and_written_so_that_they_are_read_back() {
        for (text, host, port, written) in [
            ("gpu", "gpu", DEFAULT_PORT, "gpu:7420"),
            ("gpu.lab.org:80", "gpu.lab.org", 80, "gpu.lab.org:80"),
            ("10.0.0.2:0", "10.0.0.2", 0, "10.0.0.2:0"),
            ("[::1]:9000", "::1", 9000, "[::1]:9000"),
            ("[fe80::1%eth0]", "fe80::1%eth0", DEFAULT_PORT, "[fe80::1%eth0]:7420"),
            ("::1", "::1", DEFAULT_PORT, "[::1]:7420"),
        ] {
            let address = RemoteAddress::parse(text).unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
            assert_eq!(address.to_string(), written);
            assert_eq!(RemoteAddress::parse(written).unwrap(), address);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let long = "a".repeat(HOST_LIMIT + 1);
        for (text, reason) in [
            ("", "host is missing"),
            (":7420", "host is missing"),
            ("gpu:", "port"),
            ("gpu:65536", "port"),
            ("gpu:http", "port"),
            ("[::1", "] is missing"),
            ("[::1]7420", "no : after ]"),
            ("ws://gpu", "port"),
            ("gpu/path", "other characters"),
            ("user@gpu", "other characters"),
            (long.as_str(), "too long"),
        ] {
            let error = RemoteAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("HOST:PORT"), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_that_nobody_has_is_named_in_the_error() {
        let address = RemoteAddress::parse("no-such-host.invalid").unwrap();
        let error = address.resolve().unwrap_err();
        assert!(matches!(&error, RemoteError::Name { .. }), "{error}");
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    }
}
