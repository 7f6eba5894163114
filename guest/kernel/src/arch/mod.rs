//! The processor. The architecture is chosen here, once; everything else uses these names.

mod x86_64;
pub use x86_64::*;
