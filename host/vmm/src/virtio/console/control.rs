//! The thread of the control queues, which starts those of the streams.

use super::protocol::{MAX_MESSAGE, NAMES};
use super::{Joined, Shared, start_streams};
use crate::virtio::ring::Ring;
use crate::worker::{Control, Mode, borrow, clear};
use rustix::event::PollFlags;
use std::sync::Arc;
use vm_memory::Bytes;

/// Takes the driver's messages from `tx` and puts ours into `rx`, and starts the streams that `waiting` has, until told to end.
pub fn run(control: &Control, mut rx: Ring, mut tx: Ring, mut waiting: Vec<Joined>, shared: &Arc<Shared>) {
    loop {
        rings(&rx, &tx, &waiting).for_each(Ring::clear_kick);
        clear(&shared.news);
        // Also when told to end: what is in a ring by then is handed over.
        if control.mode() != Mode::Stop
            && let Err(error) = start_streams(control, &mut waiting, shared)
        {
            rx.fail(&error);
            return;
        }
        if control.mode() != Mode::Run {
            return;
        }
        let result = receive(&mut tx, shared).and_then(|()| deliver(&mut rx, shared));
        if let Err(error) = result {
            rx.fail(&error);
            return;
        }
        let mut fds = [borrow(&shared.news); 3 + NAMES.len()];
        for (fd, ring) in fds.iter_mut().zip(rings(&rx, &tx, &waiting)) {
            *fd = ring.kicked();
        }
        control.wait(fds.map(|fd| (fd, PollFlags::IN)));
    }
}

/// The rings that this thread waits for.
fn rings<'a>(rx: &'a Ring, tx: &'a Ring, waiting: &'a [Joined]) -> impl Iterator<Item = &'a Ring> {
    [rx, tx].into_iter().chain(waiting.iter().map(|stream| &stream.ring))
}

fn receive(tx: &mut Ring, shared: &Shared) -> Result<(), virtio_queue::Error> {
    let ram = tx.ram();
    tx.serve(|chain| {
        let mut message = [0; MAX_MESSAGE];
        let mut len = 0;
        for descriptor in chain.clone().readable() {
            let want = (descriptor.len() as usize).min(MAX_MESSAGE - len);
            if ram.memory().read_slice(&mut message[len..len + want], descriptor.addr()).is_err() {
                return 0;
            }
            len += want;
        }
        shared.protocol().receive(&message[..len]);
        0
    })
}

fn deliver(rx: &mut Ring, shared: &Shared) -> Result<(), virtio_queue::Error> {
    let ram = rx.ram();
    loop {
        let Some(message) = shared.protocol().next().map(|message| message.bytes()) else { return Ok(()) };
        let Some(chain) = rx.pop(ram.memory())? else {
            if rx.rearm()? {
                continue;
            }
            return Ok(());
        };
        let mut rest = &message[..];
        for descriptor in chain.clone().writable() {
            let (now, later) = rest.split_at(rest.len().min(descriptor.len() as usize));
            if ram.memory().write_slice(now, descriptor.addr()).is_err() {
                break;
            }
            rest = later;
        }
        // A buffer too small for the message gets its start; the specification has no way to say it in two.
        rx.push(chain.head_index(), (message.len() - rest.len()) as u32)?;
        shared.protocol().delivered();
    }
}
