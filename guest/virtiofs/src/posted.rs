//! Requests that nobody waits for: their way out, and the check of what comes back.

use crate::ops::{Message, NodeId, Opcode};
use crate::session::Session;
use crate::{Errand, Parcel};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};
use fuse_abi::linux::fuse_out_header;
use zerocopy::{FromBytes, IntoBytes};

/// Who gets the reply to a posted request: as an [`Errand`], for a reply that was checked.
pub(crate) trait Landing: Send {
    /// Memory for the reply's body.
    fn memory(&mut self) -> &mut [u8];

    /// So many bytes of it came, or why none did. The rules of [`Errand::done`] hold.
    fn landed(self: Box<Self>, result: Result<usize>);
}

struct Posted {
    session: Arc<Session>,
    opcode: Opcode,
    node: NodeId,
    unique: u64,
    landing: Box<dyn Landing>,
}

impl Errand for Posted {
    fn memory(&mut self) -> &mut [u8] {
        self.landing.memory()
    }

    fn done(mut self: Box<Self>, header: &[u8], wrote: Result<usize>) {
        let room = self.landing.memory().len();
        let result = wrote.and_then(|wrote| {
            let out = fuse_out_header::read_from_bytes(header).map_err(|_| Errno::EIO)?;
            self.session.check(self.opcode, self.unique, &out, wrote, room)
        });
        self.session.tell(self.opcode, self.node, &[], result);
        self.landing.landed(result);
    }
}

/// Sends requests, all with one doorbell, and leaves their replies to whoever `landing` is.
pub(crate) fn post<M: Message>(session: &Arc<Session>, messages: Vec<(M, Box<dyn Landing>)>) {
    let Some(transport) = session.transport() else {
        messages.into_iter().for_each(|(_, landing)| landing.landed(Err(Errno::EIO)));
        return;
    };
    let parcel = |(message, landing): (M, Box<dyn Landing>)| {
        let body = message.request();
        let header = session.header(M::OPCODE, message.node(), body.as_bytes().len());
        session.counters.sent(M::OPCODE);
        Parcel {
            request: [header.as_bytes(), body.as_bytes()].concat(),
            header: vec![0; size_of::<fuse_out_header>()],
            errand: Box::new(Posted {
                session: session.clone(),
                opcode: M::OPCODE,
                node: message.node(),
                unique: header.unique,
                landing,
            }),
        }
    };
    transport.post(messages.into_iter().map(parcel).collect());
}
