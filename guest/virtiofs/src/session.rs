//! The conversation: one request, one reply, every reply checked before anybody sees it.

use crate::counters::Counters;
use crate::ops::name::Forgotten;
use crate::ops::{Call, Message, NUL, NodeId, Opcode, parse_error};
use crate::{Lent, Transport};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Arguments;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use diolkos_vfs::{Errno, MemBytesMut, Result};
use fuse_abi::linux::{
    fuse_batch_forget_in, fuse_forget_in, fuse_forget_one, fuse_in_header, fuse_opcode, fuse_out_header,
};
use spin::Mutex;
use zerocopy::{FromZeros, IntoBytes};

/// Receives a line for each request.
pub type TraceLine = fn(Arguments<'_>);

/// Operations a server may do without. Their `ENOSYS` is remembered and answered here from then on.
const OPTIONAL: &[Opcode] = &[
    Opcode::FUSE_ACCESS,
    Opcode::FUSE_COPY_FILE_RANGE,
    Opcode::FUSE_CREATE,
    Opcode::FUSE_FALLOCATE,
    Opcode::FUSE_FLUSH,
    Opcode::FUSE_FSYNC,
    Opcode::FUSE_FSYNCDIR,
    Opcode::FUSE_GETLK,
    Opcode::FUSE_GETXATTR,
    Opcode::FUSE_LISTXATTR,
    Opcode::FUSE_LSEEK,
    Opcode::FUSE_READDIRPLUS,
    Opcode::FUSE_REMOVEXATTR,
    Opcode::FUSE_RENAME2,
    Opcode::FUSE_SETLK,
    Opcode::FUSE_SETUPMAPPING,
    Opcode::FUSE_SETXATTR,
    Opcode::FUSE_SYNCFS,
    Opcode::FUSE_TMPFILE,
];

/// One mount's end of the wire.
pub(crate) struct Session {
    transport: Arc<dyn Transport>,
    pub(crate) counters: Counters,
    trace: Option<TraceLine>,
    tag: String,
    ids: (u32, u32),
    /// Request ids, and at the same time the order of things: see [`Session::stamp`].
    unique: AtomicU64,
    /// A bit for each opcode known to be missing.
    missing: AtomicU64,
    closed: AtomicBool,
    forgotten: Mutex<Vec<Forgotten>>,
    /// Nodes that wait to be forgotten together.
    forget_batch: usize,
}

impl Session {
    /// The share's tag.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// A conversation that forgets `forget_batch` nodes at a time.
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        tag: String,
        ids: (u32, u32),
        forget_batch: usize,
        trace: Option<TraceLine>,
    ) -> Self {
        Self {
            transport,
            counters: Counters::default(),
            trace,
            tag,
            ids,
            unique: AtomicU64::new(2),
            missing: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            forgotten: Mutex::new(Vec::new()),
            forget_batch,
        }
    }

    /// A moment: later than every stamp and request before it, earlier than every one after it. Ids go in
    /// steps of two, as Linux' do; the odd ones are for interrupts.
    pub(crate) fn stamp(&self) -> u64 {
        self.unique.fetch_add(2, Relaxed)
    }

    /// Whether the server is not known to lack an optional operation.
    pub(crate) fn has(&self, opcode: Opcode) -> bool {
        self.missing.load(Relaxed) & (1 << opcode as u64) == 0
    }

    /// Sends a request and reads its reply.
    ///
    /// # Errors
    /// What the host says; `EIO` when what it says makes no sense.
    pub(crate) fn call<C: Call>(&self, call: &C) -> Result<C::Reply> {
        let mut wire = C::Wire::new_zeroed();
        let n = self.fetch(call, wire.as_mut_bytes())?;
        if n != size_of::<C::Wire>() {
            return Err(self.nonsense(C::OPCODE, format_args!("reply of {n} bytes")));
        }
        call.parse(wire).ok_or_else(|| self.nonsense(C::OPCODE, format_args!("impossible reply")))
    }

    /// Sends a request whose reply is as long as it is, up to the buffer, and returns how long that was.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub(crate) fn fetch<M: Message>(&self, message: &M, body: &mut [u8]) -> Result<usize> {
        self.send(message, body, &[])
    }

    /// The same for a reply that fills memory lent for it.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub(crate) fn fetch_into<M: Message>(&self, message: &M, content: &[MemBytesMut<'_>]) -> Result<usize> {
        self.send(message, &mut [], content)
    }

    /// The way to the host, for what is sent without waiting for a reply; `None` when nothing is sent any more.
    pub(crate) fn transport(&self) -> Option<&dyn Transport> {
        (!self.closed.load(Relaxed)).then_some(&*self.transport)
    }

    /// Sleeps until `over`, which replies that nobody waited for make true.
    pub(crate) fn wait_for(&self, over: &dyn Fn() -> bool) {
        if !over() {
            self.transport.wait_for(over);
        }
    }

    /// How many pieces of lent memory a message may have.
    pub(crate) fn most_pieces(&self) -> usize {
        self.transport.most_pieces()
    }

    fn send<M: Message>(&self, message: &M, body: &mut [u8], wanted: &[MemBytesMut<'_>]) -> Result<usize> {
        if !self.has(M::OPCODE) {
            return Err(Errno::ENOSYS);
        }
        let request = message.request();
        let [a, b, c, d] = message.tail();
        let lent = match (message.content(), wanted) {
            ([], []) => Lent::Nothing,
            ([], wanted) => Lent::Wanted(wanted),
            (sent, _) => Lent::Sent(sent),
        };
        let parts = [request.as_bytes(), a, b, c, d];
        let result = self.exchange(M::OPCODE, message.node(), parts, body, lent);
        // What a NUL follows is a name.
        self.tell(M::OPCODE, message.node(), if b == NUL { a } else { &[] }, result);
        if result == Err(Errno::ENOSYS) && OPTIONAL.contains(&M::OPCODE) {
            self.missing.fetch_or(1 << M::OPCODE as u64, Relaxed);
        }
        result
    }

    /// A line about a request, for whoever listens.
    pub(crate) fn tell(&self, opcode: Opcode, node: NodeId, subject: &[u8], result: Result<usize>) {
        let Some(trace) = self.trace else { return };
        let (tag, name, node) = (&self.tag, name(opcode), node.0);
        let (space, subject) = (if subject.is_empty() { "" } else { " " }, subject.escape_ascii());
        match result {
            Ok(n) => trace(format_args!("{tag} {name} node {node}{space}{subject} = {n} bytes")),
            Err(errno) => {
                let errno = errno.name().unwrap_or("an unknown error");
                trace(format_args!("{tag} {name} node {node}{space}{subject} = {errno}"));
            }
        }
    }

    fn exchange(
        &self,
        opcode: Opcode,
        node: NodeId,
        parts: [&[u8]; 5],
        body: &mut [u8],
        lent: Lent<'_>,
    ) -> Result<usize> {
        if self.closed.load(Relaxed) {
            return Err(Errno::EIO);
        }
        let (sent, wanted) = match lent {
            Lent::Nothing => (0, 0),
            Lent::Sent(pieces) => (pieces.iter().map(|piece| piece.len()).sum(), 0),
            Lent::Wanted(pieces) => (0, pieces.iter().map(MemBytesMut::len).sum()),
        };
        let header = self.header(opcode, node, parts.iter().map(|p| p.len()).sum::<usize>() + sent);
        let mut request: [&[u8]; 6] = [header.as_bytes(); 6];
        let mut count = 1;
        for part in parts.into_iter().filter(|p| !p.is_empty()) {
            request[count] = part;
            count += 1;
        }
        let mut out = fuse_out_header::default();
        let room = body.len() + wanted;
        self.counters.sent(opcode);
        let wrote = if body.is_empty() {
            self.transport.request(&request[..count], &mut [out.as_mut_bytes()], lent)?
        } else {
            self.transport.request(&request[..count], &mut [out.as_mut_bytes(), body], lent)?
        };
        self.check(opcode, header.unique, &out, wrote, room)
    }

    /// Checks a reply to request `unique`, of which the device says that it wrote `wrote` bytes, where there was `room` for
    /// some behind the header; returns how many there are.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub(crate) fn check(
        &self,
        opcode: Opcode,
        unique: u64,
        out: &fuse_out_header,
        wrote: usize,
        room: usize,
    ) -> Result<usize> {
        // Both lengths are the host's word: neither may reach past what was really offered.
        let (len, header) = (out.len as usize, size_of::<fuse_out_header>());
        if wrote > room + header || len > wrote || len < header {
            return Err(self.nonsense(opcode, format_args!("{wrote} bytes with a length of {len}")));
        }
        if out.unique != unique {
            return Err(self.nonsense(opcode, format_args!("reply to request {}", out.unique)));
        }
        parse_error(out.error)
            .unwrap_or_else(|| Err(self.nonsense(opcode, format_args!("error {}", out.error))))
            .map(|()| len - header)
    }

    pub(crate) fn header(&self, opcode: Opcode, node: NodeId, body: usize) -> fuse_in_header {
        // What is made belongs to who asks.
        let (uid, gid) = diolkos_vfs::caller().map_or(self.ids, |caller| (caller.uid, caller.gid));
        fuse_in_header {
            len: (size_of::<fuse_in_header>() + body) as u32,
            opcode: opcode as u32,
            unique: self.stamp(),
            nodeid: node.0,
            uid,
            gid,
            ..Default::default()
        }
    }

    /// The host broke the protocol: `EIO`, and a line for whoever listens.
    pub(crate) fn nonsense(&self, opcode: Opcode, what: Arguments<'_>) -> Errno {
        if let Some(trace) = self.trace {
            trace(format_args!("{} {}: the host answers nonsense: {what}", self.tag, name(opcode)));
        }
        Errno::EIO
    }

    /// Takes back lookups of a node, together with others or, when `urgent`, at once.
    pub(crate) fn forget(&self, forgotten: Forgotten, urgent: bool) {
        let batch = {
            let mut waiting = self.forgotten.lock();
            waiting.push(forgotten);
            if !urgent && waiting.len() < self.forget_batch {
                return;
            }
            core::mem::take(&mut *waiting)
        };
        self.send_forgets(&batch);
    }

    fn send_forgets(&self, batch: &[Forgotten]) {
        if self.closed.load(Relaxed) {
            return;
        }
        let mut message = Vec::new();
        let opcode = match batch {
            [] => return,
            [one] => {
                let body = fuse_forget_in { nlookup: one.lookups };
                let header = self.header(Opcode::FUSE_FORGET, one.node, size_of_val(&body));
                message.extend_from_slice(header.as_bytes());
                message.extend_from_slice(body.as_bytes());
                Opcode::FUSE_FORGET
            }
            many => {
                let count = fuse_batch_forget_in { count: many.len() as u32, dummy: 0 };
                let body = size_of_val(&count) + size_of_val(many);
                message.extend_from_slice(self.header(Opcode::FUSE_BATCH_FORGET, NodeId(0), body).as_bytes());
                message.extend_from_slice(count.as_bytes());
                for one in many {
                    let one = fuse_forget_one { nodeid: one.node.0, nlookup: one.lookups };
                    message.extend_from_slice(one.as_bytes());
                }
                Opcode::FUSE_BATCH_FORGET
            }
        };
        self.counters.sent(opcode);
        if let Some(trace) = self.trace {
            trace(format_args!("{} {} of {} nodes", self.tag, name(opcode), batch.len()));
        }
        self.transport.forget(&message);
    }

    /// Sends the forgets that wait.
    pub(crate) fn flush_forgets(&self) {
        let batch = core::mem::take(&mut *self.forgotten.lock());
        self.send_forgets(&batch);
    }

    /// Nothing is sent any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
    }
}

fn name(opcode: fuse_opcode) -> &'static str {
    crate::ops::SENT.iter().find(|(sent, _)| *sent == opcode).map_or("?", |(_, name)| &name["fuse.".len()..])
}
