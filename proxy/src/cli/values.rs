//! The values of options.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::builder::ValueParser;
use clap::{Arg, Command, value_parser};
pub use humantime::Duration;
use ipnet::IpNet;

use crate::data_plane::SessionCookie;

/// A number of bytes, read from `4GiB`, `500 MiB`, `64k` or a plain number; a unit is a power of
/// 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Status codes, from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRange(pub RangeInclusive<u16>);

// === impl Size ===

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a size such as 500MiB or 4GiB";
        let text = text.trim();
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let shift = match &*unit.trim().to_ascii_lowercase() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(EXPECTED),
        };
        let number: u64 = number.parse().map_err(|_| EXPECTED)?;
        number.checked_mul(1 << shift).map(Self).ok_or(EXPECTED)
    }
}

// === impl StatusRange ===

impl FromStr for StatusRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let code = |text: &str| {
            text.trim()
                .parse()
                .ok()
                .filter(|code| (100..=599).contains(code))
        };
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err("expected status codes, such as 200 or 200-399"),
        }
    }
}

/// Reads the public address: a port alone is one of this machine only, and one after a colon is open
/// on every IPv4 address.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, &'static str> {
    const EXPECTED: &str = "expected a port, or an IP address with one: 8080 or 127.0.0.1:8080 for \
                            this machine only, :8080 or 0.0.0.0:8080 for every IPv4 address, [::]:8080 for \
                            IPv6, in brackets";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
    let address = match host {
        "localhost" => Ipv4Addr::LOCALHOST,
        "" | "*" => Ipv4Addr::UNSPECIFIED,
        _ => return Err(EXPECTED),
    };
    let port: u16 = port.parse().map_err(|_| EXPECTED)?;
    Ok((address, port).into())
}

/// Reads a network; an address alone is one of its own.
pub(super) fn parse_network(text: &str) -> Result<IpNet, &'static str> {
    const EXPECTED: &str = "expected a network or an address, such as 10.1.0.0/16 or 2001:db8::7";
    let text = text.trim();
    let network = text.parse();
    network
        .or_else(|_| text.parse().map(|address: IpAddr| address.into()))
        .map_err(|_| EXPECTED)
}

/// Reads a percentage as a share of one.
pub(super) fn parse_share(text: &str) -> Result<f64, &'static str> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent: Option<f64> = number.parse().ok();
    percent
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or("expected a percentage, such as 5%")
}

/// Reads a status that a close frame may have (RFC 6455, section 7.4).
pub(super) fn parse_close_code(text: &str) -> Result<u16, &'static str> {
    let code = text.parse().ok();
    code.filter(|code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999))
        .ok_or("expected a status that an endpoint may send: 1000 to 1003, 1007 to 1014, or 3000 to 4999")
}

/// Reads the kind and the name of what sessions are known by.
pub(super) fn parse_sticky(text: &str) -> Result<SessionCookie, &'static str> {
    let name = match text.split_once('=') {
        Some(("cookie", name)) => SessionCookie::new(name),
        None if text == "cookie" => SessionCookie::new("handoff"),
        Some(_) | None => None,
    };
    name.ok_or("expected cookie, or cookie=NAME with a name of letters and digits")
}

/// Reads the name of a port, which becomes part of a variable's name.
pub(super) fn parse_port_name(text: &str) -> Result<String, &'static str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.is_empty() && text.chars().all(is_name) {
        Ok(text.to_owned())
    } else {
        Err("expected letters and digits, such as admin")
    }
}

/// Names the values of a command's options after their types, unless an option names its own. The
/// help shows no values of variables, which may be secret.
pub(super) fn with_conventions(command: Command) -> Command {
    let numbers = [
        value_parser!(u32).into(),
        value_parser!(u64).into(),
        value_parser!(usize).into(),
    ];
    let mut names = vec![
        ("DURATION", value_parser!(Duration).into()),
        ("SIZE", value_parser!(Size).into()),
        ("ADDR", value_parser!(SocketAddr).into()),
    ];
    names.extend(numbers.map(|number| ("N", number)));
    command.mut_args(|option| {
        let name = name_of(&option, &names);
        let option = option.hide_env_values(true);
        match name {
            Some(name) => option.value_name(name),
            None => option,
        }
    })
}

fn name_of(option: &Arg, names: &[(&'static str, ValueParser)]) -> Option<&'static str> {
    let default = option.get_id().as_str().to_uppercase();
    let is_default = option
        .get_value_names()
        .is_some_and(|names| names.iter().all(|name| *name == *default));
    let given = option.get_value_parser().type_id();
    let mut names = names.iter();
    let (name, _) = names.find(|(_, parser)| is_default && parser.type_id() == given)?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_other_servers_take_it() {
        let read = |text| parse_listen(text).map(|address| address.to_string());
        for (text, address) in [
            ("8080", "127.0.0.1:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            (":8080", "0.0.0.0:8080"),
            ("*:8080", "0.0.0.0:8080"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(read(text), Ok(address.to_owned()), "{text:?}");
        }
        for text in ["", ":", "99999", "example.org:80", "127.0.0.1", "::1:80"] {
            let error = read(text).unwrap_err();
            for part in ["127.0.0.1:8080", "[::]:8080"] {
                assert!(error.contains(part), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn a_network_is_read_with_and_without_a_length() {
        let read = |text| parse_network(text).map(|network| network.to_string());
        assert_eq!(read("10.1.0.0/16").unwrap(), "10.1.0.0/16");
        assert_eq!(read(" 192.0.2.7").unwrap(), "192.0.2.7/32");
        assert_eq!(read("2001:db8::/32").unwrap(), "2001:db8::/32");
        for bad in ["", "10.1", "10.1.0.0/33", "10.1.0.0/", "localhost", "*"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_is_read_with_its_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("64k", 64 << 10),
            ("500 MiB", 500 << 20),
            ("4GiB", 4 << 30),
            ("1tb", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text:?}");
        }
        for text in ["", "GiB", "4 apples", "-1", "1.5G", "99999999999TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn status_codes_are_one_or_a_range() {
        let range = |text: &str| text.parse().map(|StatusRange(range)| range);
        assert_eq!(range("204"), Ok(204..=204));
        assert_eq!(range("200-399"), Ok(200..=399));
        for bad in ["", "ok", "399-200", "200-", "99", "200-600"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_are_told_in_percent() {
        assert_eq!(parse_share("5%"), Ok(0.05));
        assert_eq!(parse_share("0.5"), Ok(0.005));
        assert!(parse_share("101%").is_err() && parse_share("much").is_err());
    }

    #[test]
    fn a_close_frame_has_a_status_that_may_be_sent() {
        assert_eq!(parse_close_code("1012"), Ok(1012));
        for bad in ["", "200", "1005", "1006", "1015", "2999", "5000"] {
            assert!(parse_close_code(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_has_a_name_that_a_variable_may_have() {
        assert_eq!(parse_port_name("admin-2"), Ok("admin-2".to_owned()));
        assert!(parse_port_name("").is_err() && parse_port_name("a b").is_err());
    }
}
