//! Descriptors as the calls see them.

use super::open_file::OpenFile;
use super::{Call, locks};
use crate::fs::fd_table::DescriptorTable;
use crate::fs::tty;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, OpenFlags, Result};

/// The descriptors of a process.
pub type FdTable = DescriptorTable<Arc<OpenFile>>;

impl FdTable {
    /// Opens stdin, stdout and stderr as descriptors 0, 1 and 2 of a table that has none yet.
    ///
    /// # Errors
    /// `ENODEV` without a console, `EMFILE`.
    pub fn open_stdio(&self) -> Result<()> {
        let console = tty::console().ok_or(Errno::ENODEV)?;
        for fd in 0..3 {
            let (file, shown, flags) = console.open_standard(fd);
            self.insert(Arc::new(OpenFile::unnamed(file, &shown, flags)), false)?;
        }
        Ok(())
    }

    /// Closes what execve(2) closes, for the process `pid`. May wait for the host.
    pub fn close_for_exec(&self, pid: u32) {
        close_each(self.remove_for_exec(), pid);
    }

    /// Closes everything, at the end of the process `pid`. May wait for the host.
    pub fn close_all(&self, pid: u32) {
        close_each(self.remove_range(0, u32::MAX), pid);
    }
}

fn close_each(files: Vec<Arc<OpenFile>>, pid: u32) {
    for file in files {
        locks::release_records(pid, &file);
        // Nobody is there to be told of an error, as in Linux.
        let _ = file.flush();
    }
}

impl Call<'_> {
    /// The open file behind a descriptor argument; one opened with `O_PATH` does not count (open(2)).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn file(&self, fd: u64) -> Result<Arc<OpenFile>> {
        let file = self.file_or_path(fd)?;
        if file.flags().contains(OpenFlags::PATH) { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// The open file behind a descriptor argument, `O_PATH` included. Like every `int` argument only its low half counts.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn file_or_path(&self, fd: u64) -> Result<Arc<OpenFile>> {
        self.process.files.get(fd as i32)
    }

    /// Enters an open file under the lowest free number and returns that.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn install(&self, file: OpenFile, close_on_exec: bool) -> Result<u64> {
        self.process.files.insert(Arc::new(file), close_on_exec).map(|fd| fd as u64)
    }
}
