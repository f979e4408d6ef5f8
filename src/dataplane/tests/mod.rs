//! The data path against a scripted kernel, without privileges: the decision about each packet, and
//! the refusal tables of `docs/architecture.md`, a row of a table for each of theirs.

mod cost;
mod egress;
mod forward;
mod ingress;
mod own;
mod sources;
pub(super) mod support;
