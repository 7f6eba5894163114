//! The position of an open file: a number that one thread at a time may use across an operation that sleeps.
//!
//! read(2) and write(2) move it atomically for all who share the open file (POSIX 2.9.7), so it is held
//! while the file system works.

use crate::task::{Taken, Turn};
use core::sync::atomic::{AtomicU64, Ordering};

/// A position with its lock.
pub struct Position {
    value: AtomicU64,
    turn: Turn,
}

impl Position {
    /// Position 0.
    pub const fn new() -> Self {
        Self { value: AtomicU64::new(0), turn: Turn::new() }
    }

    /// Waits until nobody else holds it.
    pub fn hold(&self) -> Held<'_> {
        Held { position: self, _turn: self.turn.take() }
    }

    /// Holds it if nobody else does. Needs no kernel lock.
    pub fn try_hold(&self) -> Option<Held<'_>> {
        Some(Held { position: self, _turn: self.turn.try_take()? })
    }

    /// The value now, for who only shows it.
    pub fn peek(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// The right to use a position.
pub struct Held<'a> {
    position: &'a Position,
    _turn: Taken<'a>,
}

impl Held<'_> {
    /// The value.
    pub fn get(&self) -> u64 {
        self.position.peek()
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.position.value.store(value, Ordering::Relaxed);
    }
}
