//! What needs the inside of this crate: panics in every entry, allocations, and structs of other versions.

pub(crate) mod fault;
mod fixture;
mod panics;
mod allocations;
mod layout;
mod versions;
