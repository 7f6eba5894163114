//! What processes share by number (sysvipc(7)): sets of semaphores and queues of messages. Pure: who waits, and for how long,
//! is the calls' business ([`crate::linux`]).

pub mod messages;
pub mod registry;
pub mod semaphores;
