//! Options about what is deployed.

use clap::Args;

use crate::control_plane::artifact::Copying;

/// How artifacts are looked for, copied and unpacked.
#[derive(Args, Clone, Debug)]
pub struct Artifacts {
    /// Look only every --poll: change events are not asked for
    #[arg(long, env = "HANDOFF_NO_EVENTS", help_heading = "Detection")]
    pub no_events: bool,

    /// What runs from a private copy: nothing, files, or files and folders. What is not copied must
    /// not be overwritten while it runs. Archives are unpacked in any case
    #[arg(
        long,
        env = "HANDOFF_COPY",
        value_enum,
        default_value = "tree",
        help_heading = "Folders"
    )]
    pub copy: Copying,

    /// An archive that unpacks to more bytes is refused
    #[arg(long, env = "HANDOFF_MAX_UNPACKED", value_name = "SIZE", default_value = "4GiB", value_parser = size, help_heading = "Archives")]
    pub max_unpacked: u64,

    /// One with more files, folders and links is refused
    #[arg(
        long,
        env = "HANDOFF_MAX_ENTRIES",
        value_name = "N",
        default_value_t = 200_000,
        help_heading = "Archives"
    )]
    pub max_entries: u64,

    /// One that unpacks to more than so many times its size is refused, from 64 MiB on
    #[arg(
        long,
        env = "HANDOFF_MAX_RATIO",
        value_name = "N",
        default_value_t = 200,
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = "Archives"
    )]
    pub max_ratio: u64,

    /// Links in an archive may lead out of it
    #[arg(long, env = "HANDOFF_ALLOW_OUTSIDE_LINKS", help_heading = "Archives")]
    pub allow_outside_links: bool,
}

/// Reads `4GiB`, `500 MiB`, `64k` or a number of bytes; a unit is a power of 1024.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
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
    number.checked_mul(1 << shift).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(size(text), Ok(bytes), "{text:?}");
        }
        for text in ["", "GiB", "4 apples", "-1", "1.5G", "99999999999TiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }
}
