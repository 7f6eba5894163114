//! A queue of messages, each of a type (msgop(2)).

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};

/// Most bytes of a message (`MSGMAX`).
pub const MESSAGE_MAX: usize = 8192;
/// Most bytes of a queue (`MSGMNB`).
pub const QUEUE_MAX: u64 = 16_384;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type, above 0.
    pub kind: i64,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// Which message a call wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The first.
    Any,
    /// The first of a type.
    Of(i64),
    /// The first of any other type (`MSG_EXCEPT`).
    Not(i64),
    /// The first of the lowest type up to this one.
    UpTo(i64),
}

impl Wanted {
    /// As msgrcv(2) says it: 0, a type, or the negative of the highest one.
    pub fn new(kind: i64, except: bool) -> Self {
        match kind {
            0 => Self::Any,
            ..0 => Self::UpTo(kind.saturating_neg()),
            kind if except => Self::Not(kind),
            kind => Self::Of(kind),
        }
    }
}

/// A queue.
#[derive(Debug)]
pub struct Queue {
    messages: VecDeque<Message>,
    bytes: u64,
    /// Most bytes it holds; can be lowered.
    pub limit: u64,
    /// Who sent last, and who received last.
    pub last_sender: i32,
    /// As above.
    pub last_receiver: i32,
    /// Seconds since the epoch: last sent, last received, last changed.
    pub sent_at: i64,
    /// As above.
    pub received_at: i64,
    /// As above.
    pub changed_at: i64,
}

impl Queue {
    /// An empty one.
    pub fn new(now: i64) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            limit: QUEUE_MAX,
            last_sender: 0,
            last_receiver: 0,
            sent_at: 0,
            received_at: 0,
            changed_at: now,
        }
    }

    /// Bytes in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages in it.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether a message of so many bytes has room. Messages without bytes are bounded, too.
    pub fn has_room(&self, len: usize) -> bool {
        self.bytes + len as u64 <= self.limit && (self.messages.len() as u64) < self.limit
    }

    /// Puts a message at the end; the caller has asked for room.
    pub fn send(&mut self, message: Message) {
        self.bytes += message.text.len() as u64;
        self.messages.push_back(message);
    }

    /// Takes the message wanted, if there is one. One longer than `room` is cut with `cut`, else it stays.
    ///
    /// # Errors
    /// `E2BIG`.
    pub fn receive(&mut self, wanted: Wanted, room: usize, cut: bool) -> Result<Option<Message>> {
        let mut kinds = self.messages.iter().map(|message| message.kind);
        let place = match wanted {
            Wanted::Any => kinds.next().map(|_| 0),
            Wanted::Of(kind) => kinds.position(|other| other == kind),
            Wanted::Not(kind) => kinds.position(|other| other != kind),
            Wanted::UpTo(most) => {
                let lowest = kinds.clone().filter(|kind| *kind <= most).min();
                lowest.and_then(|lowest| kinds.position(|kind| kind == lowest))
            }
        };
        let Some(place) = place else { return Ok(None) };
        if !cut && self.messages.get(place).is_some_and(|message| message.text.len() > room) {
            return Err(Errno::E2BIG);
        }
        let Some(mut message) = self.messages.remove(place) else { return Ok(None) };
        self.bytes -= message.text.len() as u64;
        message.text.truncate(room);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(kinds: &[i64]) -> Queue {
        let mut queue = Queue::new(0);
        for kind in kinds {
            queue.send(Message { kind: *kind, text: alloc::vec![*kind as u8; 10] });
        }
        queue
    }

    fn take(queue: &mut Queue, kind: i64, except: bool) -> Option<i64> {
        queue.receive(Wanted::new(kind, except), 99, false).unwrap().map(|message| message.kind)
    }

    #[test]
    fn messages_are_chosen_by_type() {
        let mut queue = queue(&[5, 3, 9, 3]);
        assert_eq!(take(&mut queue, 4, false), None);
        assert_eq!(take(&mut queue, -4, false), Some(3));
        assert_eq!(take(&mut queue, 5, true), Some(9));
        assert_eq!(take(&mut queue, 3, false), Some(3));
        assert_eq!(take(&mut queue, i64::MIN, false), Some(5));
        assert_eq!((take(&mut queue, 0, false), queue.bytes()), (None, 0));
    }

    #[test]
    fn a_message_that_is_too_long_stays_or_is_cut() {
        let mut queue = queue(&[1]);
        assert_eq!(queue.receive(Wanted::Any, 4, false), Err(Errno::E2BIG));
        assert_eq!(queue.len(), 1);
        let cut = queue.receive(Wanted::Any, 4, true).unwrap().unwrap();
        assert_eq!((cut.text.len(), queue.bytes(), queue.len()), (4, 0, 0));
    }

    #[test]
    fn bytes_and_messages_are_bounded() {
        let mut queue = queue(&[]);
        assert!(queue.has_room(QUEUE_MAX as usize) && !queue.has_room(QUEUE_MAX as usize + 1));
        for _ in 0..QUEUE_MAX {
            queue.send(Message { kind: 1, text: Vec::new() });
        }
        assert!(!queue.has_room(0));
    }
}
