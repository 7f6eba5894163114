//! `/proc`: the texts are in the pure modules, the tree and its facts in the others.

pub mod cpuinfo;
#[cfg(guest)]
mod descriptors;
#[cfg(guest)]
mod process;
pub mod process_text;
#[cfg(guest)]
mod subject;
#[cfg(guest)]
mod system;
pub mod system_text;

#[cfg(guest)]
pub use descriptors::number;
#[cfg(guest)]
pub use process::is_directory_of;
#[cfg(guest)]
pub use system::root;
