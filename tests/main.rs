//! End-to-end tests: real programs in real machines, on every hypervisor present.
//!
//! A test is usually one line: run this command on the host and in the machine, and nothing may differ. What makes that
//! line possible is [`vm`] (the builder) and `each_platform!`, which turns one body into a test for each hypervisor. A
//! hypervisor that is missing skips its tests with a line on stderr, and fails them if the environment has `CI`.
//!
//! Data lies in folders of the build's own and is shared as a volume at `/data`, which is also the working directory on
//! both sides; so no path differs, and nothing depends on where the repository lies.

mod bad_input;
mod bench;
mod caches;
mod coherence;
mod confinement;
mod control;
mod daemons;
mod data;
mod dialogue;
mod disks;
mod exerciser;
mod ext4;
mod failures;
mod file_operations;
mod files;
mod images;
mod linux_files;
mod linux_guest;
mod linux_kernel;
mod linux_limits;
mod linux_load;
mod linux_scripts;
mod linux_sources;
mod load;
mod locks;
mod memory;
mod messages;
mod observation;
mod outcome;
mod overlay;
mod page_cache;
mod platform;
mod processors;
mod programs;
mod roots;
mod runtimes;
mod serve;
mod shares;
mod streams;
mod system_calls;
mod tools;
mod truncation;
mod vm;
mod volumes;
mod window;
