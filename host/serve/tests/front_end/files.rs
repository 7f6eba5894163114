//! FUSE messages, sent through a queue as a guest's driver would.

use crate::machine::{Machine, NEXT, WRITE};
use vm_memory::{Bytes, GuestAddress};

/// The queue for ordinary requests, and the one for urgent ones.
pub const REQUESTS: usize = 1;
pub const URGENT: usize = 0;

/// Opcodes (linux/fuse.h).
pub const LOOKUP: u32 = 1;
pub const OPEN: u32 = 14;
pub const READ: u32 = 15;
pub const INIT: u32 = 26;
pub const DESTROY: u32 = 38;
pub const SETUPMAPPING: u32 = 48;
pub const REMOVEMAPPING: u32 = 49;

/// `FUSE_SETUPMAPPING_FLAG_WRITE`.
pub const FOR_WRITING: u64 = 1;

/// The root directory's node.
pub const ROOT: u64 = 1;

const REPLY: u64 = 0x4000;
const ROOM: u32 = 0x4000;

pub fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn halves(halves: &[u32]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl Machine {
    /// Puts a request into the buffers of queue `index` and offers it. There is room for one.
    pub fn send(&mut self, index: usize, opcode: u32, node: u64, body: &[u8]) {
        let unique = self.unique();
        let mut message = halves(&[40 + body.len() as u32, opcode]);
        message.extend(words(&[unique, node]));
        message.extend(halves(&[0, 0, 1, 0]));
        message.extend(body);
        let at = Self::buffers(index);
        self.memory.write_slice(&message, GuestAddress(at)).unwrap();
        self.fill(index, &[(at, message.len() as u32, NEXT, 1), (at + REPLY, ROOM, WRITE, 0)]);
        self.offer(index, 0, 1);
    }

    /// The reply to what was sent last on queue `index`: the body, or the error number.
    pub fn reply(&mut self, index: usize) -> Result<Vec<u8>, i32> {
        let (head, len) = self.given_back(index).expect("the queue is not broken");
        assert_eq!(head, 0);
        let mut bytes = vec![0; len as usize];
        self.memory.read_slice(&mut bytes, GuestAddress(Self::buffers(index) + REPLY)).unwrap();
        assert_eq!((word(&bytes, 0) as u32, bytes.len() >= 16), (len, true), "the header has the length");
        let error = (word(&bytes, 0) >> 32) as u32 as i32;
        if error == 0 { Ok(bytes.split_off(16)) } else { Err(-error) }
    }

    pub fn call_on(&mut self, index: usize, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        self.send(index, opcode, node, body);
        self.reply(index)
    }

    pub fn call(&mut self, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        self.call_on(REQUESTS, opcode, node, body)
    }

    /// INIT of version 7.38, with MAX_PAGES and MAP_ALIGNMENT.
    pub fn init(&mut self) {
        let mut body = halves(&[7, 38, 1 << 20, 0x0440_0000]);
        body.extend([0; 48]);
        self.call(INIT, 0, &body).unwrap();
    }

    /// The node of `name` in the root.
    pub fn lookup(&mut self, name: &str) -> Result<u64, i32> {
        self.call(LOOKUP, ROOT, format!("{name}\0").as_bytes()).map(|entry| word(&entry, 0))
    }

    /// What the file `name` in the root has, by READ.
    pub fn contents(&mut self, name: &str) -> Vec<u8> {
        let node = self.lookup(name).unwrap();
        let handle = word(&self.call(OPEN, node, &[0; 8]).unwrap(), 0);
        self.call(READ, node, &[words(&[handle, 0]), halves(&[8192, 0]), words(&[0, 0])].concat()).unwrap()
    }

    /// SETUPMAPPING.
    pub fn map(&mut self, node: u64, file_offset: u64, len: u64, flags: u64, at: u64) -> Result<(), i32> {
        self.call(SETUPMAPPING, node, &words(&[u64::MAX, file_offset, len, flags, at])).map(|_| ())
    }

    /// REMOVEMAPPING of one range.
    pub fn unmap(&mut self, at: u64, len: u64) -> Result<(), i32> {
        self.call(REMOVEMAPPING, ROOT, &[halves(&[1]), words(&[at, len])].concat()).map(|_| ())
    }
}
