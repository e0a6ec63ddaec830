//! The names of artifacts in a drop folder: which are none, and their order.

use std::cmp::Ordering;
use std::ffi::OsStr;

use super::digest::belongs_aside;

/// Endings of unfinished files, of backups, and of files that belong to an artifact: checksums,
/// signatures and attestations.
const SUFFIXES_OF_OTHERS: [&str; 40] = [
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    // WinSCP
    ".filepart",
    // Browsers
    ".crdownload",
    ".download",
    ".opdownload",
    ".aria2",
    ".lftp-pget-status",
    ".gstmp",
    ".lock",
    ".swp",
    ".bak",
    ".old",
    ".orig",
    // Maven and Gradle put them beside the program.
    ".original",
    "-sources.jar",
    "-javadoc.jar",
    "-tests.jar",
    "-plain.jar",
    ".md5",
    ".sha1",
    ".sha224",
    ".sha256",
    ".sha384",
    ".sha512",
    ".b3",
    ".blake3",
    ".asc",
    ".sig",
    ".sign",
    ".minisig",
    ".sigstore",
    ".sigstore.json",
    ".intoto.jsonl",
    ".sbom",
    ".spdx.json",
    ".cdx.json",
    ".provenance",
];
/// Names that tools leave in a folder. Kudu puts `app_offline.htm` beside the files that it deploys.
const NAMES_OF_OTHERS: [&str; 5] = [
    "app_offline.htm",
    "_artifact.txt",
    "lost+found",
    "desktop.ini",
    "thumbs.db",
];
/// Words that mark a name as one that comes before the name without them.
const PRE_RELEASES: [&str; 11] = [
    "alpha",
    "beta",
    "canary",
    "dev",
    "milestone",
    "nightly",
    "pre",
    "preview",
    "rc",
    "snapshot",
    "unstable",
];

/// Compares names so that `app-9` comes before `app-10`, and `app-9-rc2` before `app-9`.
pub(super) fn compare_naturally(mut one: &[u8], mut other: &[u8]) -> Ordering {
    let mut is_in_word = false;
    loop {
        let released = |rest: &[u8]| is_in_word || !begins_pre_release(rest);
        let by_kind = released(one).cmp(&released(other));
        if by_kind != Ordering::Equal {
            return by_kind;
        }
        let (Some(&first), Some(&second)) = (one.first(), other.first()) else {
            return one.len().cmp(&other.len());
        };
        if first.is_ascii_digit() && second.is_ascii_digit() {
            let (number, rest) = take_number(one);
            let (other_number, other_rest) = take_number(other);
            let by_value = number.len().cmp(&other_number.len());
            match by_value.then_with(|| number.cmp(other_number)) {
                Ordering::Equal => {
                    is_in_word = false;
                    (one, other) = (rest, other_rest);
                }
                differs @ (Ordering::Less | Ordering::Greater) => return differs,
            }
        } else if first == second {
            is_in_word = first.is_ascii_alphabetic();
            (one, other) = (&one[1..], &other[1..]);
        } else {
            return first.cmp(&second);
        }
    }
}

/// Returns true if the rest of a name goes on with a pre-release: `-rc1`, `~beta`, `.dev3`, `rc1`.
fn begins_pre_release(rest: &[u8]) -> bool {
    let word = match rest {
        [b'-' | b'.' | b'_' | b'~' | b'+', word @ ..] => word,
        word => word,
    };
    let is_letter = |byte: &&u8| byte.is_ascii_alphabetic();
    let word = &word[..word.iter().take_while(is_letter).count()];
    let is_word = |known: &&str| word.eq_ignore_ascii_case(known.as_bytes());
    PRE_RELEASES.iter().any(is_word)
}

/// Splits the number at the start, without leading zeros, from the rest.
fn take_number(text: &[u8]) -> (&[u8], &[u8]) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let end = text.iter().position(|byte| !is_digit(byte));
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    let zeros = number.iter().take_while(|&&byte| byte == b'0').count();
    (&number[zeros..], rest)
}

/// Returns true if a file of this name can be an artifact: not an unfinished one, nor one that
/// describes or belongs to another.
pub fn is_artifact(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    // A build may have the name of the file that vim makes for a moment.
    if belongs_aside(bytes) && !bytes.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let name = name.to_string_lossy().to_lowercase();
    let is_temporary = name.starts_with('.') || name.ends_with('~');
    // `app.zip.sbom`: no artifact's name goes on after the ending of an archive.
    let is_companion = [".zip.", ".tgz.", ".tar.gz."]
        .iter()
        .any(|ending| name.contains(ending))
        || SUFFIXES_OF_OTHERS
            .iter()
            .any(|suffix| name.ends_with(suffix));
    // `SHA256SUMS`, `app_1.2_checksums.txt`.
    let list = name.strip_suffix(".txt").unwrap_or(&name);
    let list = list.strip_suffix('s').unwrap_or(list);
    let is_list = ["checksum", "md5sum", "b2sum", "b3sum"]
        .iter()
        .any(|ending| list.ends_with(ending))
        || list.rsplit_once("sha").is_some_and(|(_, sum)| {
            let bits = sum.strip_suffix("sum");
            bits.is_some_and(|bits| bits.bytes().all(|byte| byte.is_ascii_digit()))
        });
    !(is_temporary || is_companion || is_list || NAMES_OF_OTHERS.contains(&name.as_str()))
}
