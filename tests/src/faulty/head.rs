//! The little of a head that it takes to spoil what follows.

use std::io::{self, Read};

/// The head of a request or an answer, with its last empty line.
#[derive(Clone, Debug)]
pub(super) struct Head(String);

impl Head {
    /// None when nothing comes.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if from.read(&mut byte)? == 0 {
                return Ok(None);
            }
            head.push(byte[0]);
        }
        String::from_utf8(head)
            .map(|head| Some(Self(head)))
            .map_err(io::Error::other)
    }

    pub(super) fn method(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// Returns the target without its query.
    pub(super) fn path(&self) -> &str {
        let target = self.0.split(' ').nth(1).unwrap_or_default();
        target.split('?').next().unwrap_or_default()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.0.lines().filter_map(|line| line.split_once(':'));
        let mut fields = fields.map(|(name, value)| (name, value.trim()));
        let found = fields.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    pub(super) fn length(&self) -> usize {
        let length = self.field("content-length").unwrap_or_default();
        length.parse().unwrap_or(0)
    }

    /// Returns the head with this field, and no other of the name.
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let lines = self.0.trim_end().lines().filter(|line| {
            let found = line.split_once(':').map(|(found, _)| found);
            !found.is_some_and(|found| found.eq_ignore_ascii_case(name))
        });
        let lines: Vec<&str> = lines.collect();
        Self(format!("{}\r\n{name}: {value}\r\n\r\n", lines.join("\r\n")))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
