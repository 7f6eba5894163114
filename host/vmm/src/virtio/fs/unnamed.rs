//! TMPFILE, which the library has no method for: open(2) with `O_TMPFILE`.
//!
//! The request is CREATE's, with a name that means nothing; the reply is CREATE's (linux/fuse.h, protocol 7.37).

use super::guard::{Guard, refuse};
use super::listing::Listings;
use super::passthrough::{Created, MakeUnnamed};
use fuse_backend_rs::abi::fuse_abi::{CreateIn, EntryOut, InHeader, OpenOut};
use fuse_backend_rs::api::filesystem::{Context, FileSystem};
use std::io;
use vm_memory::ByteValued;

/// `FUSE_TMPFILE`.
pub const TMPFILE: u32 = 51;

/// Bytes of the reply without its header.
pub const TMPFILE_REPLY: usize = size_of::<EntryOut>() + size_of::<OpenOut>();

impl<F: MakeUnnamed> MakeUnnamed for Listings<F> {
    fn make_unnamed(&self, ctx: &Context, parent: u64, args: CreateIn) -> io::Result<Created> {
        self.inner().make_unnamed(ctx, parent, args)
    }
}

impl<F: MakeUnnamed + FileSystem<Inode = u64, Handle = u64>> MakeUnnamed for Guard<F> {
    fn make_unnamed(&self, ctx: &Context, parent: u64, mut args: CreateIn) -> io::Result<Created> {
        let mut ctx = *ctx;
        self.id_remap(&mut ctx)?;
        args.flags = super::guard::flags(args.flags);
        self.0.make_unnamed(&ctx, parent, args)
    }
}

/// Makes a file as `args` say in the directory that `header` names, and returns the body of the reply.
///
/// # Errors
/// [`MakeUnnamed::make_unnamed`]'s.
pub fn make(files: &dyn MakeUnnamed, header: &InHeader, args: CreateIn) -> io::Result<Vec<u8>> {
    let mut ctx = Context::new();
    (ctx.uid, ctx.gid) = (header.uid, header.gid);
    let (entry, handle, options, _) = files.make_unnamed(&ctx, header.nodeid, args)?;
    let fh = handle.ok_or_else(|| refuse(libc::EIO))?;
    let opened = OpenOut { fh, open_flags: options.bits(), passthrough: 0 };
    Ok([EntryOut::from(entry).as_slice(), opened.as_slice()].concat())
}
