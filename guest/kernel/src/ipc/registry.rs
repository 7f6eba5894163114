//! Objects by key and number (semget(2), msgget(2)).

use alloc::collections::BTreeMap;
use diolkos_vfs::{Errno, Result};

/// `IPC_PRIVATE`: no key.
pub const PRIVATE: i32 = 0;
/// `IPC_CREAT` and `IPC_EXCL`, beside the permission bits.
const CREATE: u32 = 0o1000;
const EXCLUSIVE: u32 = 0o2000;

/// To whom an object belongs and who may use it: kept and shown, not enforced, since there is one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Key.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Maker.
    pub creator_uid: u32,
    /// Its group.
    pub creator_gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// An object and its permissions.
#[derive(Debug)]
pub struct Object<T> {
    /// Permissions.
    pub permissions: Permissions,
    /// What it is.
    pub value: T,
}

/// All objects of a kind.
#[derive(Debug)]
pub struct Registry<T> {
    objects: BTreeMap<i32, Object<T>>,
    next: i32,
    most: usize,
}

impl<T> Registry<T> {
    /// None yet, and never more than `most`.
    pub const fn new(most: usize) -> Self {
        Self { objects: BTreeMap::new(), next: 0, most }
    }

    /// The number of the object with a key, which `suits` has to find good, or of a new one.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT` as the flags say, `ENOSPC`; what `suits` and `make` say.
    pub fn get(
        &mut self,
        wanted: Permissions,
        flags: u32,
        suits: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<i32> {
        let known = self.objects.iter().find(|(_, object)| object.permissions.key == wanted.key);
        match known.filter(|_| wanted.key != PRIVATE) {
            Some(_) if flags & (CREATE | EXCLUSIVE) == CREATE | EXCLUSIVE => return Err(Errno::EEXIST),
            Some((id, object)) => return suits(&object.value).map(|()| *id),
            None if flags & CREATE == 0 && wanted.key != PRIVATE => return Err(Errno::ENOENT),
            None => {}
        }
        let value = make()?;
        if self.objects.len() >= self.most {
            return Err(Errno::ENOSPC);
        }
        let id = self.next;
        // Numbers are not used again: who still has an old one must not meet another object.
        self.next = id.checked_add(1).ok_or(Errno::ENOSPC)?;
        self.objects.insert(id, Object { permissions: wanted, value });
        Ok(id)
    }

    /// The object with a number.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn find(&mut self, id: i32) -> Result<&mut Object<T>> {
        self.objects.get_mut(&id).ok_or(Errno::EINVAL)
    }

    /// All objects' values.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.objects.values().map(|object| &object.value)
    }

    /// Takes an object away.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn remove(&mut self, id: i32) -> Result<Object<T>> {
        self.objects.remove(&id).ok_or(Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_to_one_object_and_numbers_are_not_used_again() {
        let mut all = Registry::new(2);
        let key = |key| Permissions { key, ..Permissions::default() };
        let fine = |_: &u8| Ok(());
        assert_eq!(all.get(key(5), 0, fine, || Ok(1)), Err(Errno::ENOENT));
        assert_eq!(all.get(key(5), CREATE, fine, || Ok(1)), Ok(0));
        assert_eq!(all.get(key(5), CREATE, fine, || Ok(2)), Ok(0));
        assert_eq!(all.get(key(5), CREATE | EXCLUSIVE, fine, || Ok(2)), Err(Errno::EEXIST));
        assert_eq!(all.get(key(5), 0, |_| Err(Errno::EINVAL), || Ok(2)), Err(Errno::EINVAL));
        assert_eq!(all.get(key(PRIVATE), 0, fine, || Ok(3)), Ok(1));
        assert_eq!(all.get(key(PRIVATE), 0, fine, || Ok(3)), Err(Errno::ENOSPC));
        assert_eq!(all.remove(0).unwrap().value, 1);
        assert_eq!(all.find(0).unwrap_err(), Errno::EINVAL);
        assert_eq!(all.get(key(PRIVATE), 0, fine, || Ok(4)), Ok(2));
    }
}
