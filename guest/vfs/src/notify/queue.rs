//! The events that wait to be read, as read(2) gives them.

use super::Events;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Most events that wait (`/proc/sys/fs/inotify/max_queued_events`); one more is lost, and that is told once.
pub const MAX_QUEUED: usize = 16384;

/// Bytes of a `struct inotify_event` without its name.
const HEADER: usize = 16;

/// An event as the program gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) wd: i32,
    pub(super) what: Events,
    pub(super) cookie: u32,
    pub(super) name: Option<Box<[u8]>>,
}

impl Event {
    /// Events were lost.
    fn overflow() -> Self {
        Self { wd: -1, what: Events::Q_OVERFLOW, cookie: 0, name: None }
    }

    /// Bytes of the name with its NULs: a multiple of the header's, so that the next event is aligned.
    fn padded_name(&self) -> usize {
        self.name.as_ref().map_or(0, |name| (name.len() + 1).next_multiple_of(HEADER))
    }

    fn len(&self) -> usize {
        HEADER + self.padded_name()
    }

    fn write(&self, to: &mut Vec<u8>) {
        let padded = self.padded_name();
        to.extend(self.wd.to_ne_bytes());
        to.extend(self.what.bits().to_ne_bytes());
        to.extend(self.cookie.to_ne_bytes());
        to.extend((padded as u32).to_ne_bytes());
        let end = to.len() + padded;
        to.extend_from_slice(self.name.as_deref().unwrap_or_default());
        to.resize(end, 0);
    }

    /// Whether telling `self` after `last` tells nothing new (`event_compare` in Linux' inotify_fsnotify.c).
    fn repeats(&self, last: &Self) -> bool {
        !last.what.contains(Events::IGNORED) && (self.wd, self.what, &self.name) == (last.wd, last.what, &last.name)
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: VecDeque<Event>,
    /// Bytes of all of them.
    bytes: usize,
}

impl Queue {
    /// Adds an event, unless it repeats the last one or there is no room.
    pub(super) fn push(&mut self, mut event: Event) {
        if self.events.len() >= MAX_QUEUED {
            // Told once, whatever else comes until it is read.
            if self.events.len() > MAX_QUEUED {
                return;
            }
            event = Event::overflow();
        } else if self.events.back().is_some_and(|last| event.repeats(last)) {
            return;
        }
        self.bytes += event.len();
        self.events.push_back(event);
    }

    /// Takes events that fit into `room` bytes together. `None` when not even the first does.
    pub(super) fn take(&mut self, room: usize) -> Option<Vec<u8>> {
        let mut taken = Vec::new();
        while let Some(event) = self.events.front().filter(|event| taken.len() + event.len() <= room) {
            event.write(&mut taken);
            self.bytes -= event.len();
            self.events.pop_front();
        }
        (!taken.is_empty() || self.events.is_empty()).then_some(taken)
    }

    /// Bytes that wait (`FIONREAD`).
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(wd: i32, what: Events, name: Option<&[u8]>) -> Event {
        Event { wd, what, cookie: 0, name: name.map(Into::into) }
    }

    #[test]
    fn events_are_laid_out_as_linux_does() {
        let mut queue = Queue::default();
        queue.push(event(1, Events::OPEN, None));
        queue.push(Event { cookie: 7, ..event(2, Events::MOVED_TO | Events::ISDIR, Some(b"fifteen letters")) });
        queue.push(event(2, Events::CREATE, Some(b"sixteen letters!")));
        assert_eq!(queue.bytes(), 16 + 32 + 48);
        assert_eq!(queue.take(15), None);
        let first = queue.take(16 + 31).unwrap();
        assert_eq!(first, [1, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let rest = queue.take(1000).unwrap();
        assert_eq!((rest.len(), rest[8], rest[12], rest[32 + 12]), (80, 7, 16, 32));
        assert_eq!(&rest[4..8], [0x80, 0, 0, 0x40]);
        assert_eq!(&rest[16..32], b"fifteen letters\0");
        assert_eq!((queue.take(1000), queue.bytes()), (Some(Vec::new()), 0));
    }

    #[test]
    fn what_repeats_the_last_is_told_once() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            queue.push(event(1, Events::MODIFY, Some(b"a")));
        }
        queue.push(event(1, Events::MODIFY, Some(b"b")));
        queue.push(event(1, Events::MODIFY, Some(b"a")));
        queue.push(event(1, Events::IGNORED, None));
        queue.push(event(1, Events::IGNORED, None));
        assert_eq!(queue.bytes(), 3 * 32 + 2 * 16);
    }

    #[test]
    fn a_full_queue_says_so_once() {
        let mut queue = Queue::default();
        for i in 0..MAX_QUEUED as i32 + 100 {
            queue.push(event(i, Events::MODIFY, None));
        }
        assert_eq!(queue.bytes(), (MAX_QUEUED + 1) * 16);
        let all = queue.take(usize::MAX).unwrap();
        let last = all.last_chunk::<16>().unwrap();
        assert_eq!(last, &[0xff, 0xff, 0xff, 0xff, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        queue.push(event(1, Events::MODIFY, None));
        assert_eq!(queue.bytes(), 16);
    }
}
