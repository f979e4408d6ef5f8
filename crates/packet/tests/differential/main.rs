//! The packet library against other people's: every input, valid or not, goes through `etherparse`
//! and `smoltcp` too, and what is cut or joined through `tun-rs`. Each disagreement is in a table
//! with its reason, or it is a defect.

mod cut;
mod inputs;
mod offload;
mod parsers;
mod print;
mod writers;
