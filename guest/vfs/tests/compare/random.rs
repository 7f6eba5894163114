//! Thousands of operations over a handful of names, in an order that a fixed seed decides.

use crate::ops::{Op, Path};
use crate::{agree, with_worlds};
use diolkos_vfs::{OpenFlags, RenameFlags};

const OPERATIONS: usize = 30_000;

/// A small linear congruential generator (Knuth's MMIX constants): the sequence must be the same for ever.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn path(&mut self) -> Path {
        let mut path = String::new();
        if self.one_in(5) {
            path.push('/');
        }
        let parts = 1 + self.below(3);
        for i in 0..parts {
            if i > 0 {
                path.push_str(self.pick(&["/", "/", "/", "//"]));
            }
            path.push_str(self.pick(&["a", "b", "c", "d", "a", "b", "c", "d", ".", ".."]));
        }
        if self.one_in(8) {
            path.push('/');
        }
        Path::new(&path)
    }

    fn flags(&mut self, all: OpenFlags) -> OpenFlags {
        // NONBLOCK always: a FIFO must not wait.
        all.iter().filter(|_| self.one_in(3)).fold(OpenFlags::NONBLOCK, |flags, flag| flags | flag)
    }

    fn rename_flags(&mut self) -> RenameFlags {
        let (none, no_replace, exchange) = (RenameFlags::empty(), RenameFlags::NOREPLACE, RenameFlags::EXCHANGE);
        self.pick(&[none, none, no_replace, exchange, exchange, no_replace | exchange])
    }

    fn mode(&mut self) -> u32 {
        self.pick(&[0o644, 0o755, 0o700, 0o777, 0o2755, 0o4755, 0o1777])
    }

    pub fn op(&mut self) -> Op {
        let opening = OpenFlags::CREAT
            | OpenFlags::EXCL
            | OpenFlags::TRUNC
            | OpenFlags::DIRECTORY
            | OpenFlags::NOFOLLOW
            | OpenFlags::RDWR
            | OpenFlags::APPEND;
        match self.below(24) {
            0 => Op::Chdir(self.path()),
            1 => Op::Getcwd,
            2..=4 => Op::Open(self.path(), self.flags(opening), self.mode()),
            5..=6 => {
                let flags = self.flags(OpenFlags::CREAT | OpenFlags::APPEND | OpenFlags::TRUNC);
                Op::Write(self.path(), flags, self.below(20_000), self.below(9000) as usize, self.below(256) as u8)
            }
            7 => Op::Read(self.path(), self.below(20_000), self.below(30_000) as usize),
            8 => Op::Readdir(self.path()),
            9..=10 => Op::Stat(self.path(), self.one_in(2)),
            11 => Op::Access(self.path(), self.below(8) as u32),
            12..=13 => Op::Mkdir(self.path(), self.mode()),
            14 => Op::Mknod(self.path(), self.pick(&[libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFREG, 0]) | self.mode()),
            15 => Op::Symlink(self.path(), self.path()),
            16 => Op::Link(self.path(), self.path(), self.one_in(2)),
            17 => Op::Unlink(self.path()),
            18 => Op::Rmdir(self.path()),
            19..=20 => Op::Rename(self.path(), self.path(), self.rename_flags()),
            21 => Op::Readlink(self.path()),
            22 => Op::Truncate(self.path(), self.below(20_000)),
            _ => match self.below(4) {
                0 => Op::Chmod(self.path(), self.mode()),
                1 => Op::Chown(self.path(), self.below(3) as u32, self.below(3) as u32, self.one_in(2)),
                2 => Op::Utimens(self.path(), self.below(1 << 31) as i64, self.below(1000) as u32, self.one_in(2)),
                _ => Op::Holding(self.path(), Box::new(self.op())),
            },
        }
    }
}

fn compare(seed: u64) {
    with_worlds(move |guest, host| {
        let mut dice = Dice(seed);
        let mut history = Vec::new();
        for _ in 0..OPERATIONS {
            let op = dice.op();
            agree(guest, host, &op, &history);
            history.push(op);
            // The working directory ends up in places that are gone; come back now and then.
            if dice.one_in(50) {
                let home = Op::Chdir(Path::new("/"));
                agree(guest, host, &home, &history);
                history.push(home);
            }
        }
    });
}

#[test]
fn random_operations_answer_as_on_the_host() {
    compare(1);
}

#[test]
fn other_random_operations_answer_as_on_the_host() {
    compare(0x00d1_01c0_5bee);
}
