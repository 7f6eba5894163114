//! What tests of images have in common: trees on the host, images of them, comparisons, and damage.
//!
//! It is code of tests: what goes wrong panics.

mod compare;
mod damage;
pub mod heap;
mod tree;

pub use compare::{Times, compare};
pub use damage::survive;
pub use tree::{FileBlock, Scene, noise, run, set_mtime, set_xattr, text};
