//! What this server reaches by HTTP: addresses that are allowed, and hosts that are left alone for a while because they fail.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use switchback_core::model::Millis;

/// Failures in a row after which a host is left alone.
const FAILURES_MAX: u32 = 5;
/// How long it is left alone, in milliseconds; then one request tries again.
const OPEN_MS: Millis = 30_000;
/// Hosts that are remembered.
const HOSTS_MAX: usize = 1_000;
/// How long a name may take to become addresses.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Where a request goes: the addresses that its host has now, all of them allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct Destination {
    /// The host as the address names it.
    pub host: String,
    /// What it has to be connected to, so that the name cannot mean something else a moment later.
    pub addresses: Vec<SocketAddr>,
}

/// Why there is no destination.
#[derive(Debug, thiserror::Error)]
pub enum NoWay {
    /// It is not allowed, or is no address; another time it will not be either.
    #[error("{0}")]
    Refused(String),
    /// The name could not be looked up now.
    #[error("{0}")]
    Unknown(String),
}

/// The addresses behind a URL.
///
/// # Errors
/// The host cannot be found, or one of its addresses is private and in none of `networks`.
pub async fn destination(url: &str, networks: &[IpNet]) -> Result<Destination, NoWay> {
    let bad = || NoWay::Refused("the address cannot be read".to_owned());
    let url = url::Url::parse(url).map_err(|_| bad())?;
    let port = url.port_or_known_default().ok_or_else(bad)?;
    let host = url.host_str().ok_or_else(bad)?.to_owned();
    let addresses: Vec<SocketAddr> = match url.host().ok_or_else(bad)? {
        url::Host::Ipv4(ip) => vec![(ip, port).into()],
        url::Host::Ipv6(ip) => vec![(ip, port).into()],
        url::Host::Domain(name) => {
            let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((name, port))).await;
            let unknown = || NoWay::Unknown(format!("`{host}` cannot be found"));
            found.map_err(|_| unknown())?.map_err(|_| unknown())?.collect()
        }
    };
    if let Some(address) = addresses.iter().find(|address| !is_allowed(address.ip(), networks)) {
        let message = format!(
            "`{host}` is at the private address {}, which `outgoing.networks` does not allow",
            address.ip()
        );
        return Err(NoWay::Refused(message));
    }
    Ok(Destination { host, addresses })
}

impl Destination {
    /// A client for one request, tied to the addresses that were looked at: it follows no redirect and no proxy.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn client(&self, timeout: Duration) -> reqwest::Result<reqwest::Client> {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout)
            .no_proxy()
            .user_agent(concat!("Switchback/", env!("CARGO_PKG_VERSION")))
            .resolve_to_addrs(&self.host, &self.addresses)
            .build()
    }
}

/// The beginning of an answer's body, as text.
///
/// # Errors
/// The connection broke, or time ran out.
pub async fn text_of(answer: &mut reqwest::Response, bytes_max: usize) -> reqwest::Result<String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = bytes_max - body.len();
        body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if body.len() >= bytes_max {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Why there was no answer, without the address, which may hold a secret.
pub fn why_no_answer(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        "no answer: not in time".to_owned()
    } else if error.is_connect() {
        "no answer: it cannot be reached".to_owned()
    } else {
        format!("no answer: {error}")
    }
}

/// Whether an address may be reached: it is public, or in one of the networks.
fn is_allowed(ip: IpAddr, networks: &[IpNet]) -> bool {
    let ip = ip.to_canonical();
    let is_private = match ip {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => is_private_v6(ip),
    };
    !is_private || networks.iter().any(|network| network.contains(&ip))
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local() // where clouds keep a machine's credentials
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // carriers' own
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)) // benchmarks
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    let [first, second, third, _, _, _, high, low] = ip.segments();
    // Addresses that stand for one of IPv4: translated, and tunnelled.
    let inner = |high: u16, low: u16| {
        is_private_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
    };
    let translated = first == 0x64 && second == 0xff9b && inner(high, low);
    let tunnelled = first == 0x2002 && inner(second, third);
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unique_local()
        || ip.is_unicast_link_local()
        || (first == 0x2001 && second == 0xdb8)
        || translated
        || tunnelled
}

/// Hosts and how they fail. A host that fails five times in a row is left alone for half a minute.
#[derive(Debug, Default)]
pub struct Circuits(Mutex<BTreeMap<String, Circuit>>);

#[derive(Clone, Copy, Debug, Default)]
struct Circuit {
    failures: u32,
    open_until: Millis,
}

impl Circuits {
    /// Whether a host may be asked now; the error is for how many milliseconds it is left alone. After that time one request
    /// may try, and the others wait for what it finds.
    pub fn enter(&self, host: &str, now: Millis) -> Result<(), Millis> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(host) {
            Some(circuit) if circuit.failures >= FAILURES_MAX => {
                if now < circuit.open_until {
                    return Err(circuit.open_until - now);
                }
                circuit.open_until = now + OPEN_MS;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Notes how a request to the host went.
    pub fn leave(&self, host: &str, now: Millis, is_good: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_good {
            all.remove(host);
            return;
        }
        if all.len() >= HOSTS_MAX && !all.contains_key(host) {
            all.clear(); // forgetting them means asking them again
        }
        let circuit = all.entry(host.to_owned()).or_default();
        circuit.failures = circuit.failures.saturating_add(1);
        circuit.open_until = now + OPEN_MS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_need_their_network() {
        let none: &[IpNet] = &[];
        let allowed = |ip: &str, networks: &[IpNet]| is_allowed(ip.parse().unwrap(), networks);
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "fd00::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
        ] {
            assert!(!allowed(private, none), "{private}");
        }
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(allowed(public, none), "{public}");
        }
        let home: &[IpNet] = &["10.0.0.0/8".parse().unwrap()];
        assert!(allowed("10.9.9.9", home) && allowed("::ffff:10.9.9.9", home));
        assert!(!allowed("127.0.0.1", home));
    }

    #[test]
    fn a_host_that_fails_is_left_alone_and_tried_again() {
        let circuits = Circuits::default();
        for now in 0..5 {
            assert_eq!(circuits.enter("a", now), Ok(()));
            circuits.leave("a", now, false);
        }
        assert_eq!(circuits.enter("a", 10), Err(OPEN_MS - 6));
        assert_eq!(circuits.enter("b", 10), Ok(()), "others are asked");
        let later = OPEN_MS + 4;
        assert_eq!(circuits.enter("a", later), Ok(()), "one may try");
        assert!(circuits.enter("a", later).is_err(), "and only one");
        circuits.leave("a", later, true);
        assert_eq!(circuits.enter("a", later), Ok(()));
    }
}
