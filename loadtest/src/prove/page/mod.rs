//! The record as one page of HTML that needs nothing else.

use super::part::Part;
use super::record::Record;

/// The whole page.
///
/// # Errors
/// A plot could not be drawn.
pub fn html(_record: &Record, _parts: &[Part]) -> Result<String, String> {
    Ok(String::new())
}
