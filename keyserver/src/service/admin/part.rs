//! A part of a list that is long in a large organisation: the one of a name, or so many after an id.

use crate::service::error::ServiceError;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Most objects of a part.
const MAX_PART: u32 = 1000;

/// Which objects of a collection, in the order of their ids.
#[derive(Debug, Clone)]
pub struct Part<I> {
    /// Those with this name.
    pub named: Option<String>,
    /// Those whose ids come after this one.
    pub after: Option<I>,
    /// The first so many of these; all when absent.
    pub limit: Option<u32>,
}

impl<I: Ord + Copy> Part<I> {
    /// The objects that are asked for and that `fits` takes.
    pub(super) fn of<'a, T>(
        &self,
        all: &'a BTreeMap<I, Arc<T>>,
        fits: impl Fn(&T) -> bool,
    ) -> Result<Vec<&'a T>, ServiceError> {
        let limit = match self.limit {
            None => usize::MAX,
            Some(limit @ 1..=MAX_PART) => usize::try_from(limit).unwrap_or(usize::MAX),
            Some(_) => return Err(ServiceError::invalid("limit", format!("must be 1 to {MAX_PART}"))),
        };
        let first = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        let following = all.range((first, Bound::Unbounded)).map(|(_, row)| row.as_ref());
        Ok(following.filter(|row| fits(row)).take(limit).collect())
    }
}
