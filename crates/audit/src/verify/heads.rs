//! Compares the end of the chain with the heads that are stored in other places.

use super::{Finding, KnownHead, chain::ChainWalk};
use crate::{Head, head::ReadHead};
use std::cmp::Ordering;

/// What the heads show. `stored` is the head file before the records were read, `newest` after it. Heads in other places may be older,
/// because they are written later.
pub(super) fn check_heads(
    walk: &ChainWalk<'_>,
    stored: &ReadHead,
    newest: &ReadHead,
    known: &[KnownHead],
) -> Vec<Finding> {
    let last = walk.last.seq;
    let mut found = Vec::new();
    match stored {
        ReadHead::Missing if last > 0 => {
            found.push(Finding::new("head_missing", "head.json is missing.".to_owned()));
        }
        ReadHead::Missing => {}
        ReadHead::Forged => {
            let text = "head.json was not written by this server: it is malformed or its MAC is wrong.".to_owned();
            found.push(Finding::new("head_forged", text));
        }
        ReadHead::Found(head) => {
            if let ReadHead::Found(newest) = newest
                && newest.seq < last
            {
                let text = format!(
                    "head.json names record {}, but the trail ends with record {last}: the file is an older one, or the server was killed \
                     between two writes and not started since.",
                    newest.seq
                );
                found.push(Finding::new("head_older", text).records(newest.seq, last));
            }
            found.extend(compare(walk, head, "head.json"));
        }
    }
    for KnownHead { place, head } in known {
        match head {
            Some(head) => found.extend(compare(walk, head, place)),
            None => {
                let text = format!("the head in {place} was not written by this server: its MAC is wrong.");
                found.push(Finding::new("head_forged", text));
            }
        }
    }
    found
}

/// What a head shows that is as new as the trail or newer, or whose record has another hash.
fn compare(walk: &ChainWalk<'_>, head: &Head, place: &str) -> Option<Finding> {
    let last = walk.last.seq;
    match head.seq.cmp(&last) {
        Ordering::Greater => {
            let text = format!(
                "the end was cut off, or the trail was replaced by an older copy: it ends with record {last}, but {place} names record {}.",
                head.seq
            );
            Some(Finding::new("end_missing", text).records(last + 1, head.seq))
        }
        Ordering::Equal | Ordering::Less => {
            let hash = walk.hashes.get(&head.seq)?;
            (*hash != head.hash).then(|| {
                let text = format!(
                    "record {} is not the one that {place} names: the trail was replaced by another one.",
                    head.seq
                );
                Finding::new("head_differs", text).records(head.seq, head.seq)
            })
        }
    }
}
