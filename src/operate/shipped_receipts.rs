//! What was shipped from here: the folders in `shipped/`, and our receipt in each.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    disk::{lookup::if_there, record_files, tree::TreeError},
    model::{
        episode::EpisodeId, layout::without_number, progress::Progress, records::ShippingReceipt,
    },
};

/// A folder in `shipped/`: an episode, under its own name or a numbered one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShippedFolder {
    /// The episode, as far as the folder's name says it; the receipt says it for certain.
    pub episode_id: EpisodeId,
    /// Where it stands.
    pub path: PathBuf,
}

impl ShippedFolder {
    /// Our receipt in it.
    ///
    /// # Errors
    /// Those of reading the folder and the files of that name.
    pub(crate) fn receipt(&self) -> Result<Option<ShippingReceipt>, TreeError> {
        record_files::receipt(&self.path)
    }
}

/// Every episode in `shipped/`, in the order of the names. A folder that is not there holds none;
/// what is no folder or has no episode's name is passed over.
///
/// # Errors
/// Those of listing the folder.
pub(crate) fn all(shipped: &Path) -> io::Result<Vec<ShippedFolder>> {
    let entries = if_there(fs::read_dir(shipped))?;
    let mut found = Vec::new();
    for entry in entries.into_iter().flatten() {
        let entry = entry?;
        // Whatever else stands there is the operator's.
        let Ok(filed_as) = EpisodeId::from_os(&entry.file_name()) else {
            continue;
        };
        if entry.file_type()?.is_dir() {
            // `a~1` is what episode `a` is called where the name was taken, or an episode of that
            // name.
            let episode_id =
                EpisodeId::parse(without_number(filed_as.as_str())).unwrap_or(filed_as);
            found.push(ShippedFolder {
                episode_id,
                path: entry.path(),
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The folders in which this episode is filed: `<id>`, `<id>~1`, ... Where the receipt in one of
/// them says that it is an episode of that very name, it is another.
///
/// # Errors
/// As [`all`].
pub(crate) fn of(shipped: &Path, id: &EpisodeId) -> io::Result<Vec<ShippedFolder>> {
    let paths = if_there(record_files::filed_as(shipped, id, &Progress::default()))?;
    let filed = paths.into_iter().flatten().map(|path| ShippedFolder {
        episode_id: id.clone(),
        path,
    });
    let is_another = |shipped: &ShippedFolder| matches!(shipped.receipt(), Ok(Some(receipt)) if receipt.episode_id != *id);
    Ok(filed.filter(|shipped| !is_another(shipped)).collect())
}
