//! Runs a detector over inputs in chunks of bounded memory.

use std::ops::ControlFlow;

use anyhow::Result;
use f2d2::{Detector, Inspection, Verdict};
use indicatif::ProgressBar;

use crate::inputs::{Inputs, Item};

/// Images and bytes decoded at a time, whichever is reached first.
const CHUNK_IMAGES: usize = 256;
const CHUNK_BYTES: usize = 256 << 20;

/// Calls `each` with every item, in order, and its inspection or the reason why it is invalid.
///
/// Stops early where `each` breaks or fails.
pub(crate) fn scan(
    detector: &Detector,
    inputs: &Inputs,
    bar: &ProgressBar,
    mut each: impl FnMut(&Item, Result<Inspection, String>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut items = inputs.items().peekable();
    while items.peek().is_some() {
        let chunk = take_chunk(&mut items);
        for (item, result) in chunk.iter().zip(inspect(detector, &chunk)) {
            if item.index == 0 {
                bar.inc_length(item.of as u64 - 1);
            }
            bar.inc(1);
            if each(item, result)?.is_break() {
                return Ok(());
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn take_chunk(items: &mut impl Iterator<Item = Item>) -> Vec<Item> {
    let mut chunk: Vec<Item> = Vec::new();
    let mut bytes = 0;
    while chunk.len() < CHUNK_IMAGES && bytes < CHUNK_BYTES {
        let Some(item) = items.next() else { break };
        bytes += item.picture.as_ref().map_or(0, |picture| picture.image().as_bytes().len());
        chunk.push(item);
    }
    chunk
}

fn inspect(detector: &Detector, chunk: &[Item]) -> Vec<Result<Inspection, String>> {
    let frames: Vec<_> = chunk
        .iter()
        .map(|item| item.picture.as_ref().map_err(String::clone).and_then(|p| p.frame()))
        .collect();
    let usable: Vec<_> = frames.iter().flatten().copied().collect();
    let mut inspections = detector.inspect_batch(&usable).into_iter();
    let missing = || "the detector gave no answer".to_owned();
    frames
        .into_iter()
        .map(|frame| {
            frame.and_then(|_| match inspections.next() {
                Some(Inspection { verdict: Some(Verdict::Invalid(why)), .. }) => Err(why),
                inspection => inspection.ok_or_else(missing),
            })
        })
        .collect()
}
