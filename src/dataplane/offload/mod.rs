//! The features of the kernel that the data path can use and can do without.

mod active;

pub use active::{Agreement, Feature, FeatureState};
