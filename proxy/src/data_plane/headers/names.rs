//! The names of the fields that handoff sets, removes or relies on, and the names that apps take
//! for them.

/// Returns `true` for a field that describes the client, or what the client has asked for, as a
/// proxy in front may have set it.
pub fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded")
        || matches!(
            name,
            "client-ip"
                | "forwarded"
                | "front-end-https"
                | "true-client-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-real-ip"
        )
}

/// Returns `true` for a field of handoff's own: one that it sets, removes or relies on.
pub fn is_own(name: &str) -> bool {
    is_forwarding(name)
        || name.starts_with("ms-aspnetcore-")
        || name.starts_with("x-iis-")
        || matches!(
            name,
            "content-length"
                | "http2-settings"
                | "keep-alive"
                | "max-forwards"
                | "proxy-authorization"
                | "proxy-connection"
                | "transfer-encoding"
                | "x-request-id"
        )
}

/// Returns `true` for a name that begins like a field of handoff's own, or like an alias of one. Cheap
/// enough for every field of every message.
#[inline]
pub(super) fn begins_as_own(name: &str) -> bool {
    match name.as_bytes() {
        // Not `Content-Type`, which most messages have.
        [b'c', b'o', ..] => name.len() == "content-length".len(),
        [b'x', _, b'c', b'l', ..]
        | [b'x', _, b'f', b'o', ..]
        | [b'x', _, b'i', b'i', ..]
        | [b'x', _, b'r', b'e', b'a' | b'q', ..]
        | [b'c', b'l', ..]
        | [b'f', b'o' | b'r', ..]
        | [b'h', b't', ..]
        | [b'k', b'e', ..]
        | [b'm', b'a' | b's', ..]
        | [b'p' | b't', b'r', ..] => true,
        _ => false,
    }
}

/// Returns `true` for a name with another character than letters, digits and hyphens: it could be an
/// alias of a field of handoff's own.
pub(super) fn may_be_alias(name: &str) -> bool {
    // The shortest such field is `Client-IP`.
    name.len() >= 9 && !name.bytes().all(is_plain)
}

/// Returns `true` for the alias of a field of handoff's own. CGI, WSGI, Rack and PHP turn the
/// fields into variables, and cannot distinguish `X_Forwarded_For` from `X-Forwarded-For` then;
/// some do the same with a point (RFC 9110, section 17.10).
pub fn is_alias(name: &str) -> bool {
    may_be_alias(name) && {
        let plain = |byte| if is_plain(byte) { byte } else { b'-' };
        let meant: Vec<u8> = name.bytes().map(plain).collect();
        str::from_utf8(&meant).is_ok_and(is_own)
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_own_field_is_an_alias() {
        let own = [
            "client-ip",
            "front-end-https",
            "true-client-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-forwarded-for",
            "x-forwarded-whatever",
            "x-real-ip",
            "content-length",
            "http2-settings",
            "keep-alive",
            "max-forwards",
            "ms-aspnetcore-winauthtoken",
            "proxy-authorization",
            "proxy-connection",
            "transfer-encoding",
            "x-iis-windowsauthtoken",
            "x-request-id",
        ];
        for name in own {
            assert!(is_own(name) && !is_alias(name), "{name}");
            assert!(begins_as_own(name), "{name}");
            for other in ["_", ".", "~"] {
                for alias in [name.replace('-', other), name.replacen('-', other, 1)] {
                    assert!(is_alias(&alias) && begins_as_own(&alias), "{alias}");
                }
            }
        }
    }

    #[test]
    fn names_of_others_are_none() {
        for name in [
            "api_key",
            "x_other",
            "x_api_key_of_mine",
            "content-type",
            "content_type",
            "cookie",
            "x-forwarded-for",
            "forwarded",
            "",
        ] {
            assert!(!is_alias(name), "{name}");
        }
    }
}
