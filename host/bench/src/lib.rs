//! The evaluation: `diolkos bench micro`, the microbenchmark of the thesis for anybody to repeat, and `diolkos bench boot`,
//! which starts programs ([`boot()`]).
//!
//! A run goes through *rounds*; in each, every *job* (`job`: one way to use files) is done by every *system* (`system`:
//! the host itself, Diolkos in its variants, its peers) before the next job begins. So whatever else the computer does
//! meanwhile disturbs all systems alike, and a figure means something beside the host's own of the same round.
//!
//! ```text
//!   settings ─► plan ─► for each round, job, system: system::command ─► Runner ─► fio or worker ─► Figures
//!                                                                                     │
//!                        table, JSON, charts ◄── Report ◄── every figure, with what --stats says
//! ```
//!
//! Nothing is measured in this process: each figure comes from a process of its own, either fio or our own executable as
//! a hidden worker ([`worker`]). `runner::Runner` is the seam: tests put recorded output in the place of all of them.
//!
//! What it leaves out: the command line, which is `host/diolkos`' business.

#![forbid(unsafe_code)]

mod boot;
mod charts;
mod counters;
mod data;
mod figures;
mod fio;
mod head;
mod job;
mod machine;
mod micro;
mod number;
mod progress;
mod report;
mod runner;
mod selection;
mod settings;
mod system;
mod table;
pub mod worker;

pub use boot::{BootReport, BootSettings, Program, boot, select as select_boot};
pub use head::Findings;
pub use machine::Machine;
pub use micro::{Error, micro};
pub use report::Report;
pub use runner::Processes;
pub use selection::Selection;
pub use settings::{Amounts, Peers, Settings};
