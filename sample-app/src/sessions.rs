//! Sessions that only this process knows, as many apps have them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Maximum number of sessions; a further one takes the place of all others.
const MAX: usize = 100_000;

/// The number of requests in each session.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, u64>>);

impl Sessions {
    /// Counts a request, and returns its session and its number in that. A session that this process
    /// does not know begins anew.
    pub(crate) fn count(&self, id: Option<&str>) -> (String, u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = id
            && let Some(count) = all.get_mut(id)
        {
            *count += 1;
            return (id.to_owned(), *count);
        }
        if all.len() >= MAX {
            all.clear();
        }
        let id = format!("{}-{}", std::process::id(), all.len() + 1);
        all.insert(id.clone(), 1);
        (id, 1)
    }
}
