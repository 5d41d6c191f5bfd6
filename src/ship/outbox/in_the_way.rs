//! Something else than a file under the name of an archive: nothing of it is followed, waited for
//! or removed.

use std::{fs, path::Path};

use crate::{
    disk::{
        record_files::TYPE,
        tree::{shown, what_it_is},
    },
    model::text::{foreign_command, word},
};

/// What stands where an archive has to lie, and what to type; `None` where that is a file, or
/// nothing.
pub(crate) fn in_the_way(path: &Path) -> Option<String> {
    let what = what_it_is(fs::symlink_metadata(path).ok()?.file_type())?;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let aside = foreign_command(&path, |here| {
        let mut aside = path.clone().into_os_string();
        aside.push(".aside");
        format!("mv -T --backup=numbered {here} {}", word(&aside))
    });
    Some(format!(
        "{} is {what}, and in the way of its archive; it is not touched. {TYPE}sudo {aside}",
        shown(&path)
    ))
}
