//! Extended attributes: those of the files beneath. Access control lists are among them; the kernel enforces them.

use super::state::{Caller, View};
use super::{Answer, Ids};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// Longest value, and longest list.
const LIMIT: usize = 1 << 16;
/// Most values are shorter; mostly there is none.
const USUAL: usize = 512;

impl View {
    pub(super) fn attribute(&self, caller: Caller, number: u64, name: &OsStr) -> Answer<Vec<u8>> {
        self.admit(caller)?;
        let node = self.nodes.node(number)?;
        let path = node.through();
        let mut value = vec![0; USUAL];
        let length = match rustix::fs::getxattr(&*path, name, &mut value[..]) {
            // Where there are no such labels, `ls -l` then does not ask for that of each file.
            Err(Errno::NODATA) if name == "security.selinux" => return Err(Errno::OPNOTSUPP),
            Err(Errno::RANGE) => {
                value.resize(LIMIT, 0);
                rustix::fs::getxattr(&*path, name, &mut value[..])?
            }
            other => other?,
        };
        value.truncate(length);
        translate(
            name,
            &mut value,
            |ids, user, id| if user { ids.shown_user(id) } else { ids.shown_group(id) },
            self.ids,
        );
        Ok(value)
    }

    pub(super) fn set_attribute(
        &self,
        caller: Caller,
        number: u64,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Answer<()> {
        self.admit(caller)?;
        let node = self.nodes.node(number)?;
        if name.as_bytes().starts_with(b"user.") {
            // A value is stored as it is.
            let path = self.nodes.path_of(&node);
            let may = self.access.may_write_plain(&self.rule(&path));
            may.map_err(|failure| self.refuse(&path, caller, &failure))?;
        }
        let mut value = value.to_vec();
        translate(
            name,
            &mut value,
            |ids, user, id| if user { ids.real_user(id) } else { ids.real_group(id) },
            self.ids,
        );
        node.seen().unprivileged = None;
        rustix::fs::setxattr(
            node.through(),
            name,
            &value,
            XattrFlags::from_bits_retain(flags.cast_unsigned()),
        )
    }

    pub(super) fn attribute_names(&self, caller: Caller, number: u64) -> Answer<Vec<u8>> {
        self.admit(caller)?;
        let node = self.nodes.node(number)?;
        let mut names = vec![0; LIMIT];
        let length = match rustix::fs::listxattr(node.through(), &mut names[..]) {
            Err(Errno::OPNOTSUPP) => 0,
            other => other?,
        };
        names.truncate(length);
        Ok(names)
    }

    pub(super) fn remove_attribute(&self, caller: Caller, number: u64, name: &OsStr) -> Answer<()> {
        self.admit(caller)?;
        let node = self.nodes.node(number)?;
        rustix::fs::removexattr(node.through(), name)
    }
}

/// Puts a session's users into an access control list, or takes them out of it. The list is as in `linux/posix_acl_xattr.h`: a version,
/// then entries of tag, permissions and id.
fn translate(name: &OsStr, value: &mut [u8], with: impl Fn(Ids, bool, u32) -> u32, ids: Ids) {
    const USER: u16 = 2;
    const GROUP: u16 = 8;
    if ids == Ids::Same || !name.as_bytes().starts_with(b"system.posix_acl_") {
        return;
    }
    let Some(entries) = value.get_mut(4..) else { return };
    for entry in entries.chunks_exact_mut(8) {
        let [tag_low, tag_high, _, _, id @ ..] = entry else { continue };
        let tag = u16::from_le_bytes([*tag_low, *tag_high]);
        if let (USER | GROUP, Ok(bytes)) = (tag, <[u8; 4]>::try_from(&*id)) {
            let new = with(ids, tag == USER, u32::from_le_bytes(bytes));
            id.copy_from_slice(&new.to_le_bytes());
        }
    }
}
