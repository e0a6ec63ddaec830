//! HTTP/2 byte by byte: what no library sends, and what the tests of one cannot.

pub mod attack;
pub mod frames;
pub mod heads;
